//! Redirections: how many, where to, and what goes along.

use loam_convert::hub::{HubProblem, Options};

use crate::repository::{Repository, WEIGHTS, options, pull_with, refused, whole};
use crate::server::{Reply, Server};

#[test]
fn files_may_lie_on_another_host_that_never_sees_the_token() {
    let repository = Repository::new();
    let weights = repository.bytes(WEIGHTS).to_vec();
    let store = Server::start(move |request, before| match (request.start(), before) {
        (None, _) => {
            Reply::new(200, weights.clone()).header("etag", "\"store\"").ending(crate::server::Ending::CloseAfter(99))
        }
        (Some(start), _) => Reply::new(206, &weights[start..])
            .header("etag", "\"store\"")
            .header("content-range", format!("bytes {start}-{}/{}", weights.len() - 1, weights.len())),
    });
    let to = store.url();
    let hub = repository.serve(move |request, _, reply| match request.path.ends_with(WEIGHTS) {
        // The hub's own headers come with the redirection.
        true => Reply { status: 302, body: Vec::new(), ..reply }
            .header("content-length", "0")
            .header("location", format!("{to}/x?Signature=secret")),
        false => reply,
    });
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = Options { token: Some("hf_secret".into()), ..options(&hub) };
    let (result, told) = pull_with(&options, folder.path());
    result.unwrap_or_else(|error| panic!("{error} after {told:?}"));
    whole(&repository, folder.path());
    assert!(hub.requests().iter().all(|request| request.header("authorization") == Some("Bearer hf_secret")));
    let stored = store.requests();
    assert!(stored.iter().all(|request| request.header("authorization").is_none()));
    assert_eq!(stored[1].header("if-range"), Some("\"store\""), "the tag of the host that has the bytes");
    assert!(!format!("{told:?}").contains("secret"), "{told:?}");
}

#[test]
fn redirections_are_counted() {
    let repository = Repository::new();
    for (hops, good) in [(5, true), (6, false), (20, false)] {
        let server = repository.serve(move |request, _, reply| {
            let done = request.path.split_once("hop=").map_or(0, |(_, n)| n.parse::<usize>().expect("a number"));
            if request.path.contains(WEIGHTS) && done < hops {
                let path = request.path.split('?').next().unwrap_or_default();
                return Reply::redirect(format!("{path}?hop={}", done + 1));
            }
            if request.path.contains(WEIGHTS) { Reply::new(200, Repository::new().bytes(WEIGHTS)) } else { reply }
        });
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (result, _) = pull_with(&options(&server), folder.path());
        assert_eq!(result.is_ok(), good, "{hops}: {result:?}");
        assert_eq!(server.asked(WEIGHTS).len(), 6, "one request and five redirections");
    }
}

#[test]
fn loops_and_foreign_schemes_are_refused() {
    for to in ["", "file:///etc/passwd", "ftp://127.0.0.1/x", "http://user:word@127.0.0.1/x", "http://", "gopher:x"] {
        let server = Repository::new().serve(move |request, _, reply| {
            let loops = if to.is_empty() { request.path.clone() } else { to.to_owned() };
            if request.path.ends_with(WEIGHTS) { Reply::redirect(loops) } else { reply }
        });
        refused(&server, |problem| matches!(problem, HubProblem::Redirect(_)));
        assert!(server.asked(WEIGHTS).len() <= 6);
    }
    let server = Repository::new().serve(|_, _, _| Reply::new(302, ""));
    refused(&server, |problem| !matches!(problem, HubProblem::Network(_)));
}
