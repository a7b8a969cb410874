//! Broken connections, unfinished files, and two pulls at once.

use std::fs;
use std::path::Path;

use loam::digest::sha256_hex;
use loam_convert::Error;
use loam_convert::hub::{HubProblem, Kept, Options};

use crate::repository::{COMMIT, Repository, SIZE, WEIGHTS, options, pull, pull_with, refused, whole};
use crate::server::{Ending, Reply};

fn part(folder: &Path, ending: &str) -> std::path::PathBuf {
    folder.join(".loam-pull").join(format!("{}.{ending}", &sha256_hex(WEIGHTS.as_bytes())[..32]))
}

/// Leaves an unfinished file as an earlier pull would have.
fn begin(repository: &Repository, folder: &Path, have: &[u8], etag: &str) {
    fs::create_dir_all(folder.join(".loam-pull")).expect("made");
    fs::write(part(folder, "part"), have).expect("written");
    let digest = sha256_hex(repository.bytes(WEIGHTS));
    let begun = serde_json::json!({"commit": COMMIT, "digest": digest, "bytes": SIZE, "etag": etag});
    fs::write(part(folder, "json"), begun.to_string()).expect("written");
}

#[test]
fn a_sound_hub_is_pulled_once() {
    let repository = Repository::new();
    let server = repository.serve(|_, _, reply| reply);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pulled = pull(&server, folder.path()).expect("sound");
    assert_eq!(pulled.commit, COMMIT);
    assert!(pulled.files.iter().all(|(_, file)| !file.present));
    whole(&repository, folder.path());
    let again = pull(&server, folder.path()).expect("sound");
    assert!(again.files.iter().all(|(_, file)| file.present));
    assert_eq!(server.asked("/resolve/").len(), 2, "nothing is fetched twice");
    // What is gone is fetched again.
    fs::remove_file(folder.path().join("config.json")).expect("removed");
    pull(&server, folder.path()).expect("sound");
    whole(&repository, folder.path());
}

/// A file of the user is where a pulled one would go: of another origin, or edited since.
#[test]
fn files_of_the_user_are_not_replaced() {
    let repository = Repository::new();
    let server = repository.serve(|_, _, reply| reply);
    let kept = |folder: &Path, why: Kept| {
        let before = server.asked("/resolve/").len();
        match pull(&server, folder) {
            Err(Error::Kept { path, why: found }) => assert_eq!((path, found), (folder.join("config.json"), why)),
            other => panic!("{other:?}"),
        }
        assert_eq!(server.asked("/resolve/").len(), before, "told before anything is fetched");
        assert_eq!(fs::read(folder.join("config.json")).expect("there"), b"mine");
    };
    let forced = |folder: &Path| {
        pull_with(&Options { force: true, ..options(&server) }, folder).0.expect("sound");
        whole(&repository, folder);
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("config.json"), "mine").expect("written");
    kept(folder.path(), Kept::NotPulled);
    assert!(!folder.path().join(WEIGHTS).exists());
    forced(folder.path());
    fs::write(folder.path().join("config.json"), "mine").expect("written");
    kept(folder.path(), Kept::Edited);
    forced(folder.path());
    // The right bytes are no one's in particular.
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("config.json"), repository.bytes("config.json")).expect("written");
    pull(&server, folder.path()).expect("sound");
    whole(&repository, folder.path());
    if cfg!(unix) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("elsewhere"), "mine").expect("written");
        #[cfg(unix)]
        std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("config.json")).expect("linked");
        kept(folder.path(), Kept::NotPulled);
    }
}

/// A file that another commit has no more goes, unless the user has changed it.
#[test]
fn edited_files_of_another_commit_stay() {
    let mut old = Repository::new();
    old.files.push(("tokenizer.json".into(), b"{}".to_vec()));
    let folder = tempfile::tempdir().expect("a temporary folder");
    pull(&old.serve(|_, _, reply| reply), folder.path()).expect("sound");
    fs::write(folder.path().join("tokenizer.json"), "mine").expect("written");
    let (result, told) = pull_with(&options(&Repository::new().serve(|_, _, reply| reply)), folder.path());
    result.expect("sound");
    assert_eq!(fs::read(folder.path().join("tokenizer.json")).expect("there"), b"mine");
    assert!(told.iter().any(|event| event.contains("tokenizer.json") && event.contains("stays")), "{told:?}");
}

#[test]
fn broken_connections_go_on_where_they_ended() {
    for ending in [Ending::CloseAfter, Ending::ResetAfter] {
        for at in [0, 1, 1000, SIZE - 1] {
            let repository = Repository::new();
            let server = repository.serve(move |request, before, reply| {
                let broken = request.path.ends_with(WEIGHTS) && before < 2;
                if broken { reply.ending(ending(at)) } else { reply }
            });
            let folder = tempfile::tempdir().expect("a temporary folder");
            let (result, told) = pull_with(&options(&server), folder.path());
            result.unwrap_or_else(|error| panic!("{error} after {told:?}"));
            whole(&repository, folder.path());
            let asked = server.asked(WEIGHTS);
            assert!(asked.len() <= 3 && asked[0].start().is_none());
            if ending(0) == Ending::CloseAfter(0) && at > 0 {
                assert_eq!(asked[1].start(), Some(at));
                let tag = format!("\"{}\"", sha256_hex(repository.bytes(WEIGHTS)));
                assert_eq!(asked[1].header("if-range"), Some(&*tag));
            }
        }
    }
}

#[test]
fn a_connection_that_always_breaks_is_given_up() {
    let server = Repository::new().serve(|request, _, reply| {
        if request.path.ends_with(WEIGHTS) { reply.ending(Ending::CloseAfter(5)) } else { reply }
    });
    refused(&server, |problem| matches!(problem, HubProblem::Short { .. } | HubProblem::Network(_)));
    assert_eq!(server.asked(WEIGHTS).len(), 4, "one try and three more");
}

#[test]
fn a_server_that_ignores_ranges_starts_afresh() {
    let repository = Repository::new();
    let all = repository.bytes(WEIGHTS).to_vec();
    let server = repository.serve(move |request, before, reply| match request.path.ends_with(WEIGHTS) {
        true if before == 0 => reply.ending(Ending::CloseAfter(200_000)),
        true => Reply::new(200, all.clone()),
        false => reply,
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    pull(&server, folder.path()).expect("the second answer is whole");
    whole(&repository, folder.path());
    assert_eq!(server.asked(WEIGHTS)[1].start(), Some(200_000));
}

#[test]
fn a_complete_unfinished_file_is_checked_and_put_in_place() {
    // With a known size nothing is asked; without one the server says 416.
    for lists in [true, false] {
        let repository = Repository { lists, ..Repository::new() };
        let server = repository.serve(|_, _, reply| reply);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes = repository.bytes(WEIGHTS);
        let etag = format!("\"{}\"", sha256_hex(bytes));
        begin(&repository, folder.path(), bytes, &etag);
        if !lists {
            let json = fs::read_to_string(part(folder.path(), "json")).expect("there");
            fs::write(part(folder.path(), "json"), json.replace("\"bytes\":300000,", "")).expect("written");
        }
        pull(&server, folder.path()).expect("complete");
        whole(&repository, folder.path());
        let ranges: Vec<_> = server.asked(WEIGHTS).iter().map(|request| request.start()).collect();
        assert_eq!(ranges, if lists { vec![] } else { vec![Some(SIZE)] });
    }
}

#[test]
fn a_spurious_416_is_no_end() {
    for range in ["bytes */300000", "bytes */1000", "nonsense"] {
        let repository = Repository::new();
        let server = repository.serve(move |request, _, reply| {
            if request.start().is_some() { Reply::new(416, "").header("content-range", range) } else { reply }
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        begin(&repository, folder.path(), &repository.bytes(WEIGHTS)[..1000], "\"x\"");
        pull(&server, folder.path()).expect("from the start it is sound");
        whole(&repository, folder.path());
    }
}

#[test]
fn parts_of_other_bytes_are_not_continued() {
    let repository = Repository::new();
    let server = repository.serve(|_, _, reply| reply);
    let folder = tempfile::tempdir().expect("a temporary folder");
    // Another digest: the part is discarded unseen.
    begin(&repository, folder.path(), &[7; 1000], "\"x\"");
    let json = fs::read_to_string(part(folder.path(), "json")).expect("there");
    let other = json.replace(&sha256_hex(repository.bytes(WEIGHTS)), &"e".repeat(64));
    fs::write(part(folder.path(), "json"), other).expect("written");
    pull(&server, folder.path()).expect("sound");
    assert_eq!(server.asked(WEIGHTS)[0].start(), None);
    whole(&repository, folder.path());
    // Another entity tag: If-Range makes the server send all.
    let folder = tempfile::tempdir().expect("a temporary folder");
    begin(&repository, folder.path(), &[7; 1000], "\"old\"");
    pull(&server, folder.path()).expect("sound");
    assert_eq!(server.asked(WEIGHTS)[1].header("if-range"), Some("\"old\""));
    whole(&repository, folder.path());
}

#[test]
fn a_206_of_something_else_is_not_appended() {
    type Wrong = fn(Reply) -> Reply;
    let wrongs: [Wrong; 4] = [
        |reply| reply.header("content-range", "bytes 0-9/300000"),
        |reply| reply.header("content-range", "bytes 1000-299999/400000"),
        |reply| reply.without("content-range"),
        |reply| reply.header("etag", "\"new\""),
    ];
    for wrong in wrongs {
        let repository = Repository::new();
        let server =
            repository.serve(move |request, _, reply| if request.start().is_some() { wrong(reply) } else { reply });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let bytes = repository.bytes(WEIGHTS);
        begin(&repository, folder.path(), &bytes[..1000], &format!("\"{}\"", sha256_hex(bytes)));
        pull(&server, folder.path()).expect("from the start it is sound");
        whole(&repository, folder.path());
    }
}

#[test]
fn a_killed_pull_goes_on() {
    let repository = Repository::new();
    let server = repository.serve(|_, _, reply| reply);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let bytes = repository.bytes(WEIGHTS);
    // The record of the part may be cut by the kill: then it is not trusted.
    for (json, start) in [(true, Some(123_456)), (false, None)] {
        begin(&repository, folder.path(), &bytes[..123_456], &format!("\"{}\"", sha256_hex(bytes)));
        if !json {
            fs::write(part(folder.path(), "json"), "{\"comm").expect("written");
        }
        fs::remove_file(folder.path().join(WEIGHTS)).ok();
        pull(&server, folder.path()).expect("sound");
        whole(&repository, folder.path());
        assert_eq!(server.asked(WEIGHTS).last().expect("asked").start(), start);
    }
}

#[test]
fn two_pulls_into_one_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_owned();
    let server = Repository::new().serve(move |_, _, reply| reply);
    let lock = loam_convert::hub::folder::Folder::open(&path).expect("free");
    assert!(matches!(pull(&server, &path), Err(Error::Busy { .. })));
    assert!(server.asked("/resolve/").is_empty());
    drop(lock);
    pull(&server, &path).expect("free again");
}
