//! What servers answer: wrong bytes, wrong lengths, statuses, pages, names; and how slowly.

use std::time::Duration;

use loam_convert::Error;
use loam_convert::hub::{HubProblem, Options};
use serde_json::json;

use crate::repository::{COMMIT, Repository, SIZE, WEIGHTS, options, pull, pull_with, refused, whole};
use crate::server::{Ending, Reply, Server};

#[test]
fn wrong_bytes_are_put_aside_and_fetched_once_more() {
    for wrong_times in [1, 9] {
        let repository = Repository::new();
        let server = repository.serve(move |request, before, mut reply| {
            if request.path.ends_with(WEIGHTS) && before < wrong_times {
                reply.body[SIZE / 2] ^= 1;
            }
            reply
        });
        if wrong_times > 1 {
            refused(&server, |problem| matches!(problem, HubProblem::Digest { .. }));
        } else {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (result, told) = pull_with(&options(&server), folder.path());
            result.expect("the second time");
            whole(&repository, folder.path());
            assert!(told.iter().any(|event| event.contains("digest")), "{told:?}");
        }
        assert_eq!(server.asked(WEIGHTS).len(), 2);
    }
    let server = Repository::new().serve(|request, _, mut reply| {
        if request.path.ends_with("config.json") {
            reply.body[0] ^= 1;
        }
        reply
    });
    refused(&server, |problem| matches!(problem, HubProblem::Digest { .. }));
}

#[test]
fn what_changes_on_the_server_is_told() {
    let changes: [(&str, String); 3] = [
        ("x-repo-commit", "f".repeat(40)),
        ("x-linked-etag", format!("\"{}\"", "a".repeat(64))),
        ("x-linked-size", "4".into()),
    ];
    for (name, value) in changes {
        let server = Repository::new().serve(move |request, _, reply| {
            if request.path.ends_with(WEIGHTS) { reply.header(name, value.clone()) } else { reply }
        });
        refused(&server, |problem| matches!(problem, HubProblem::Changed(_)));
    }
}

#[test]
fn files_are_asked_for_by_the_pinned_commit() {
    let repository = Repository::new();
    let server = repository.serve(|_, _, reply| reply);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let repo = "owner/name@refs/pr/1".parse().expect("a name");
    loam_convert::hub::pull(&repo, folder.path(), &options(&server), &mut |_| ()).expect("sound");
    let paths: Vec<String> = server.requests().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[0], "/api/models/owner/name/revision/refs%2Fpr%2F1?blobs=true");
    assert!(paths[1..].iter().all(|path| path.starts_with(&format!("/owner/name/resolve/{COMMIT}/"))), "{paths:?}");
}

#[test]
fn digests_of_the_headers_do_where_nothing_is_listed_and_none_at_all_do_not() {
    let repository = Repository { lists: false, ..Repository::new() };
    let folder = tempfile::tempdir().expect("a temporary folder");
    pull(&repository.serve(|_, _, reply| reply), folder.path()).expect("sound");
    whole(&repository, folder.path());
    let server = repository.serve(|_, _, reply| reply.without("etag").without("x-linked-etag"));
    refused(&server, |problem| matches!(problem, HubProblem::Answer(what) if what.contains("checksum")));
}

#[test]
fn lying_lengths_and_encodings_are_refused() {
    let server = |change: fn(Reply) -> Reply| {
        Repository::new().serve(
            move |request, _, reply| {
                if request.path.ends_with(WEIGHTS) { change(reply) } else { reply }
            },
        )
    };
    let length = |problem: &HubProblem| matches!(problem, HubProblem::Length { .. });
    refused(&server(|reply| reply.header("content-length", "1000000000000")), length);
    refused(&server(|reply| reply.header("content-length", "12")), length);
    let answer = |problem: &HubProblem| matches!(problem, HubProblem::Answer(_));
    refused(&server(|reply| reply.header("content-encoding", "gzip")), answer);
    refused(&server(|reply| reply.header("content-encoding", "br")), answer);
    refused(&server(|reply| reply.header("content-length", "-5")), |problem| !length(problem));
    // More than listed, without a length: cut off.
    let endless = server(|reply| {
        let mut reply = reply.without("content-length");
        reply.body.resize(SIZE * 20, 0);
        reply
    });
    refused(&endless, length);
    let chunked = |parts: usize| {
        let repository = Repository::new();
        let body = repository.bytes(WEIGHTS).chunks(4096).take(parts).fold(Vec::new(), |mut all, chunk| {
            all.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
            all.extend(chunk);
            all.extend(b"\r\n");
            all
        });
        let body = [body, if parts > 1000 { b"0\r\n\r\n".to_vec() } else { b"zz\r\n".to_vec() }].concat();
        repository.serve(move |request, _, reply| match request.path.ends_with(WEIGHTS) {
            true => {
                Reply { body: body.clone(), ..reply }.without("content-length").header("transfer-encoding", "chunked")
            }
            false => reply,
        })
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    pull(&chunked(usize::MAX), folder.path()).expect("chunked is fine");
    whole(&Repository::new(), folder.path());
    refused(&chunked(3), |_| true);
}

#[test]
fn statuses_have_meanings() {
    let cases: [(u16, Option<&str>, Option<&str>, &str); 9] = [
        (401, None, None, "HF_TOKEN"),
        (401, None, Some("x"), "not valid"),
        (403, Some("GatedRepo"), None, "asked for"),
        (403, None, Some("x"), "licence"),
        (404, Some("RevisionNotFound"), None, "no such branch"),
        (404, Some("RepoNotFound"), None, "no such repository"),
        (404, None, None, "no such"),
        (410, None, None, "does not expect"),
        (407, None, None, "proxy"),
    ];
    for (code, cause, token, words) in cases {
        let server = Server::start(move |_, _| {
            let reply = Reply::new(code, "no");
            cause.map_or(reply.clone(), |cause| reply.header("x-error-code", cause))
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = Options { token: token.map(str::to_owned), ..options(&server) };
        match pull_with(&options, folder.path()).0 {
            Err(Error::Hub { problem: HubProblem::Status { code: found, meaning }, .. }) => {
                assert_eq!(found, code);
                assert!(meaning.contains(words), "{code}: {meaning}");
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(server.requests().len(), 1, "{code} does not pass");
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 0, "nothing to pull, nothing made");
    }
}

#[test]
fn passing_troubles_pass() {
    for code in [429, 500, 502, 503, 504] {
        let repository = Repository::new();
        let server = repository.serve(move |request, before, reply| match before {
            0 if request.path.ends_with(WEIGHTS) => Reply::new(code, "busy").header("retry-after", "0"),
            1 if request.path.starts_with("/api") => reply,
            0 if request.path.starts_with("/api") => Reply::new(code, "busy"),
            _ => reply,
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (result, told) = pull_with(&options(&server), folder.path());
        result.unwrap_or_else(|error| panic!("{error} after {told:?}"));
        assert_eq!(told.iter().filter(|event| event.starts_with("Retry")).count(), 2, "{told:?}");
        let server = Server::start(move |_, _| Reply::new(code, "busy"));
        refused(&server, |problem| matches!(problem, HubProblem::Status { code: found, .. } if *found == code));
        assert_eq!(server.requests().len(), 4);
        let server = Server::start(move |_, _| Reply::new(code, "busy").header("retry-after", "86400"));
        refused(&server, |problem| matches!(problem, HubProblem::Status { .. }));
        assert_eq!(server.requests().len(), 1, "it does not wait a day");
    }
}

#[test]
fn web_pages_are_no_files() {
    let page = |reply: Reply| {
        Reply::new(reply.status, "<html>Log in</html>").header("content-type", "text/html; charset=utf-8")
    };
    let api = Repository::new().serve(move |_, _, reply| page(reply));
    assert!(refused(&api, |problem| matches!(problem, HubProblem::Answer(_))).contains("login page"));
    let file = Repository { lists: false, ..Repository::new() }
        .serve(move |request, _, reply| if request.path.starts_with("/api") { reply } else { page(reply) });
    assert!(refused(&file, |problem| matches!(problem, HubProblem::Answer(_))).contains("login page"));
    for json in ["", "null", "{\"sha\":1}", "{\"sha\":\"main\",\"siblings\":[]}"] {
        let server = Server::start(move |_, _| Reply::new(200, json).header("content-type", "application/json"));
        refused(&server, |problem| matches!(problem, HubProblem::Answer(_)));
    }
}

#[test]
fn slow_and_silent_servers_time_out() {
    let timeout = |problem: &HubProblem| matches!(problem, HubProblem::Timeout(_));
    let silent = Server::start(|_, _| Reply::new(200, "").ending(Ending::Silence(Duration::from_secs(2))));
    refused(&silent, timeout);
    let drip = Repository::new().serve(|request, _, reply| match request.path.ends_with(WEIGHTS) {
        true => reply.ending(Ending::Drip(Duration::from_millis(20))),
        false => reply,
    });
    refused(&drip, timeout);
    assert_eq!(drip.asked(WEIGHTS).len(), 4);
}

#[test]
fn no_connection_is_told() {
    // The port was free a moment ago and no server listens there now.
    let gone = Server::start(|_, _| Reply::new(200, ""));
    let mut options = options(&gone);
    drop(gone);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let network = |result| matches!(result, Err(Error::Hub { problem: HubProblem::Network(_), .. }));
    assert!(network(pull_with(&options, folder.path()).0));
    options.endpoint = "http://no-such-host.invalid".into();
    let (result, told) = pull_with(&options, folder.path());
    assert!(network(result), "{told:?}");
    // A server that does not speak TLS.
    let plain = Server::start(|_, _| Reply::new(200, ""));
    options.endpoint = plain.url().replace("http://", "https://");
    assert!(matches!(pull_with(&options, folder.path()).0, Err(Error::Hub { .. })));
    for endpoint in ["", "ftp://x", "huggingface.co", "https://user:word@host", "file:///etc"] {
        options.endpoint = endpoint.into();
        assert!(matches!(pull_with(&options, folder.path()).0, Err(Error::Argument(_))), "{endpoint}");
    }
}

#[test]
fn names_never_leave_the_folder() {
    let outside = tempfile::tempdir().expect("a temporary folder");
    let folder = outside.path().join("in/side");
    for name in [
        "../evil",
        "/tmp/loam-evil",
        "..%2fevil",
        "a/../../evil",
        "CON",
        "a\\b",
        &"x".repeat(300),
        "nul\0",
        ".loam-pull/lock",
    ] {
        let repository = Repository { files: vec![(name.to_owned(), b"x".to_vec())], lists: true };
        let server = repository.serve(|_, _, reply| reply);
        let options = Options { files: vec!["*".into()], ..options(&server) };
        let result = pull_with(&options, &folder).0;
        let refused = matches!(result, Err(Error::Hub { problem: HubProblem::Name { .. }, .. }));
        assert!(refused, "{name}: {result:?}");
        assert_eq!(server.requests().len(), 1);
    }
    // Shards that an index names.
    for name in ["../../etc/passwd.safetensors", "/etc/passwd", "config.json", "absent.safetensors"] {
        let index = json!({"weight_map": {"x": name}}).to_string().into_bytes();
        let files =
            vec![("config.json".to_owned(), b"{}".to_vec()), ("model.safetensors.index.json".to_owned(), index)];
        let server = Repository { files, lists: false }.serve(|request, _, reply| {
            let etag = crate::repository::blob(&reply.body);
            if request.path.ends_with("index.json") { reply.header("x-linked-etag", etag) } else { reply }
        });
        let result = pull_with(&options(&server), &folder).0;
        assert!(matches!(result, Err(Error::Hub { .. })), "{name}: {result:?}");
    }
    let names: Vec<_> =
        std::fs::read_dir(outside.path()).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
    assert_eq!(names, ["in"]);
}

#[test]
fn another_commit_does_not_mix_with_what_was_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let old = Repository::new();
    pull(&old.serve(|_, _, reply| reply), folder.path()).expect("sound");
    let shard = ("model-00001-of-00001.safetensors".to_owned(), vec![3; 2000]);
    let index = json!({"weight_map": {"x": shard.0}}).to_string().into_bytes();
    let index = ("model.safetensors.index.json".to_owned(), [index, vec![b' '; 1000]].concat());
    let new = Repository { files: vec![("config.json".into(), b"{ }\n".to_vec()), shard, index], lists: true };
    let (result, told) = pull_with(&options(&new.serve(|_, _, reply| reply)), folder.path());
    result.expect("sound");
    whole(&new, folder.path());
    assert!(!folder.path().join(WEIGHTS).exists(), "weights of another commit would be converted");
    assert!(told.iter().any(|event| event.contains("removed")), "{told:?}");
}

#[test]
fn folders_that_cannot_be_written() {
    let server = Repository::new().serve(|_, _, reply| reply);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "x").expect("written");
    assert!(matches!(pull(&server, &file), Err(Error::File(loam_files::Error::Io { .. }))));
    // A folder where a file should go.
    std::fs::create_dir_all(folder.path().join(WEIGHTS).join("x")).expect("made");
    assert!(matches!(pull(&server, folder.path()), Err(Error::Kept { .. })));
    let forced = pull_with(&Options { force: true, ..options(&server) }, folder.path()).0;
    assert!(matches!(forced, Err(Error::File(loam_files::Error::Io { .. }))), "{forced:?}");
    if cfg!(target_os = "linux") {
        assert!(pull(&server, "/proc/loam".as_ref()).is_err());
    }
}
