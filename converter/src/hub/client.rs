//! Requests: redirections with their limits, the token, time limits, and which failures are worth another try.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::HeaderMap;
use ureq::http::header::HeaderName;
use ureq::{Agent, Body, Proxy};

use super::digest::Digest;
use super::problem::HubProblem;
use super::url::{Url, redacted, redacted_text};
use super::{Options, Pace};
use crate::{Error, Result};

/// Most redirections of one request.
const MAX_REDIRECTS: usize = 5;
/// Environment variables that name a proxy, in ureq's order.
const PROXIES: [&str; 6] = ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"];

/// How something failed.
#[derive(Debug)]
pub enum Failure {
    /// It may go better the next time, not before the given wait if there is one.
    Again(Error, Option<Duration>),
    /// It will not.
    Final(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Final(error.into())
    }
}

/// An answer to a GET, its body unread.
#[derive(Debug)]
pub struct Answer {
    /// Where it came from, after all redirections.
    pub url: Url,
    /// 200, 206 or 416.
    pub status: u16,
    /// Headers of the last answer.
    headers: HeaderMap,
    /// What the hub itself said of the file on the way.
    pub linked: Linked,
    body: Body,
}

/// What the hub's own headers tell of a file, before the request was redirected to another host.
#[derive(Debug, Default)]
pub struct Linked {
    /// `X-Linked-Etag`, else `ETag`, if it is a digest.
    pub digest: Option<Digest>,
    /// `X-Linked-Size`.
    pub bytes: Option<u64>,
    /// `X-Repo-Commit`.
    pub commit: Option<String>,
}

/// A hub that is asked things.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    endpoint: Url,
    token: Option<String>,
    pace: Pace,
}

impl Client {
    /// Prepares requests to `options.endpoint`. Nothing is sent yet.
    ///
    /// # Errors
    /// [`Error::Argument`]: the endpoint, the token or a proxy of the environment is malformed.
    pub fn new(options: &Options) -> Result<Client> {
        // One in a password with slashes is none of the host.
        let plain = |url| if options.endpoint.contains('@') { Err("to an address with a user name") } else { Ok(url) };
        let endpoint = Url::parse(options.endpoint.trim_end_matches('/'))
            .and_then(plain)
            .map_err(|why| Error::Argument(format!("the endpoint {:?} leads {why}", redacted(&options.endpoint))))?;
        let token = options.token.as_ref().map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        if token.as_ref().is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(Error::Argument("the token holds characters that no token has".into()));
        }
        let pace = options.pace.clone();
        let config = Agent::config_builder()
            .user_agent(concat!("loam/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(pace.connect))
            .timeout_connect(Some(pace.connect))
            .timeout_send_request(Some(pace.idle))
            .timeout_recv_response(Some(pace.idle))
            .timeout_per_read(Some(pace.idle))
            .proxy(proxy()?)
            .build();
        Ok(Client { agent: config.into(), endpoint, token, pace })
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Asks for `url` with `headers` and follows redirections. The token goes to the endpoint's own host only.
    ///
    /// # Errors
    /// No connection, a refused redirection, or a status other than 200, 206 and 416.
    pub fn get(&self, url: &Url, headers: &[(&'static str, String)]) -> Result<Answer, Failure> {
        let mut url = url.clone();
        let mut linked = Linked::default();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.agent.get(url.request());
            for (name, value) in headers {
                request = request.header(HeaderName::from_static(name), value);
            }
            let own = url.same_origin(&self.endpoint);
            if let (true, Some(token)) = (own, &self.token) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| transport(&url, error))?;
            let (parts, body) = response.into_parts();
            if own {
                linked.add(&parts.headers);
            }
            let status = parts.status.as_u16();
            match status {
                200 | 206 | 416 => {
                    let answer = Answer { url, status, headers: parts.headers, linked, body };
                    return answer.plain();
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = text(&parts.headers, "location").unwrap_or_default();
                    url = url.follow(location).map_err(|problem| hub(&url, problem))?;
                }
                _ => return Err(refused(&url, status, &parts.headers, self.token.is_some())),
            }
        }
        Err(hub(&url, HubProblem::Redirect(format!("more than {MAX_REDIRECTS} times"))).into())
    }

    /// Hands the body of `answer` to `sink` in pieces, and gives up when too little comes for too long.
    ///
    /// # Errors
    /// The connection breaks or is too slow, and what `sink` returns.
    pub fn drain(&self, answer: Answer, mut sink: impl FnMut(&[u8]) -> Result<(), Failure>) -> Result<(), Failure> {
        let url = answer.url;
        let mut body = answer.body.into_with_config().limit(u64::MAX).reader();
        let mut buffer = vec![0; 256 << 10];
        let (mut since, mut came) = (Instant::now(), 0u64);
        loop {
            let n = match body.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(transport(&url, error.into())),
            };
            sink(&buffer[..n])?;
            came += n as u64;
            if since.elapsed() >= self.pace.window {
                if came < self.pace.least_per_window {
                    let problem = format!("only {came} bytes in {} seconds", self.pace.window.as_secs_f32());
                    return Err(Failure::Again(hub(&url, HubProblem::Timeout(problem)), None));
                }
                (since, came) = (Instant::now(), 0);
            }
        }
    }
}

impl Answer {
    /// The value of a header that is readable text.
    pub fn header(&self, name: &str) -> Option<&str> {
        text(&self.headers, name)
    }

    /// `Content-Length`.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// An error about this answer.
    pub fn error(&self, problem: HubProblem) -> Error {
        hub(&self.url, problem)
    }

    /// Refuses bodies that are not the bytes themselves.
    fn plain(self) -> Result<Answer, Failure> {
        match self.header("content-encoding") {
            Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => {
                let problem = format!("the body is {encoding:?}-encoded although that was not asked for");
                Err(self.error(HubProblem::Answer(problem)).into())
            }
            _ => Ok(self),
        }
    }
}

impl Linked {
    /// The first answer that tells something wins: it is the closest to the repository.
    fn add(&mut self, headers: &HeaderMap) {
        let digest = |name| text(headers, name).and_then(Digest::parse);
        self.digest = self.digest.take().or_else(|| digest("x-linked-etag")).or_else(|| digest("etag"));
        self.bytes = self.bytes.or_else(|| text(headers, "x-linked-size")?.trim().parse().ok());
        self.commit = self.commit.take().or_else(|| text(headers, "x-repo-commit").map(str::to_owned));
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An [`Error::Hub`].
pub fn hub(url: &Url, problem: HubProblem) -> Error {
    Error::Hub { url: url.to_string(), problem }
}

/// The proxy of the environment. One that cannot be understood must not be passed by.
fn proxy() -> Result<Option<Proxy>> {
    for name in PROXIES {
        if let Ok(value) = std::env::var(name)
            && !value.trim().is_empty()
            && Proxy::new(&value).is_err()
        {
            return Err(Error::Argument(format!("the environment variable {name} names no proxy loam knows")));
        }
    }
    Ok(Proxy::try_from_env())
}

/// What went wrong below HTTP. Certificates and malformed answers stay as they are; all else may pass.
fn transport(url: &Url, error: ureq::Error) -> Failure {
    use ureq::Error as E;
    let problem = match &error {
        E::Timeout(what) => HubProblem::Timeout(format!("no answer ({what})")),
        E::HostNotFound => HubProblem::Network("there is no such host, or no network".into()),
        E::Io(io) => HubProblem::Network(redacted_text(&io.to_string())),
        E::Protocol(_) | E::Http(_) | E::LargeResponseHeader(..) => {
            HubProblem::Answer(redacted_text(&format!("no valid HTTP answer: {error}")))
        }
        // Of a proxy, for one, which may have a password.
        other => HubProblem::Network(redacted_text(&other.to_string())),
    };
    let passing = match &error {
        // Bad certificates come as invalid data.
        E::Io(io) => io.kind() != std::io::ErrorKind::InvalidData,
        E::Timeout(_) | E::HostNotFound | E::ConnectionFailed => true,
        _ => false,
    };
    let error = hub(url, problem);
    if passing { Failure::Again(error, None) } else { Failure::Final(error) }
}

/// What a status means, and whether asking again makes sense.
fn refused(url: &Url, code: u16, headers: &HeaderMap, token: bool) -> Failure {
    let meaning = meaning(code, text(headers, "x-error-code"), token);
    let error = hub(url, HubProblem::Status { code, meaning: meaning.into() });
    match code {
        408 | 429 | 500 | 502 | 503 | 504 => {
            let after = text(headers, "retry-after").and_then(|s| s.trim().parse().ok()).map(Duration::from_secs);
            Failure::Again(error, after)
        }
        _ => Failure::Final(error),
    }
}

fn meaning(code: u16, cause: Option<&str>, token: bool) -> &'static str {
    match (code, cause) {
        (_, Some("GatedRepo")) => {
            "access must be asked for on the model's page, then HF_TOKEN set to a token that may read it"
        }
        (_, Some("RevisionNotFound")) => "there is no such branch, tag or commit",
        (_, Some("EntryNotFound")) => "there is no such file",
        (404, Some("RepoNotFound")) | (404, None) => {
            "there is no such repository, revision or file; private ones need HF_TOKEN"
        }
        (401, _) if token => "the token of HF_TOKEN is not valid here, or there is no such repository",
        (401, _) => "there is no such repository, or it needs a token: set HF_TOKEN",
        (403, _) if token => {
            "the token of HF_TOKEN may not read this; it may need a licence to be accepted on the model's page"
        }
        (403, _) => "access is refused; set HF_TOKEN, and accept the model's licence on its page",
        (407, _) => "the proxy wants a user name and password in its address",
        (429, _) => "too many requests",
        (500..=599, _) => "the server has a problem",
        _ => "loam does not expect that",
    }
}
