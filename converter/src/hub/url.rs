//! Addresses: the endpoint, what is below it, and where a redirection leads.

use std::fmt;

use ureq::http::Uri;

use super::problem::HubProblem;

/// An absolute http or https address without user name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url(Uri);

impl Url {
    /// Parses an absolute address.
    ///
    /// # Errors
    /// What is wrong with it, to be put after "redirected" or before the address.
    pub fn parse(text: &str) -> Result<Url, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "to something that is no address")?;
        match uri.scheme_str() {
            Some("http" | "https") => {}
            Some(_) => return Err("to an address that is neither https nor http"),
            None => return Err("to an address without https:// or http://"),
        }
        match uri.authority() {
            None => Err("to an address without a host"),
            Some(authority) if authority.as_str().contains('@') => Err("to an address with a user name"),
            Some(authority) if authority.host().is_empty() => Err("to an address without a host"),
            Some(_) => Ok(Url(uri)),
        }
    }

    /// The address of `path`, which begins with a slash, below this one.
    ///
    /// # Errors
    /// The path holds characters that must be escaped, or the address becomes too long.
    pub fn join(&self, path: &str) -> Result<Url, HubProblem> {
        let base = self.0.to_string();
        let text = format!("{}{path}", base.trim_end_matches('/'));
        Url::parse(&text).map_err(|_| HubProblem::Answer(format!("{path:?} makes no address")))
    }

    /// Where `location`, absolute or relative, leads from here.
    ///
    /// # Errors
    /// [`HubProblem::Redirect`]: not an http address, or from https to http.
    pub fn follow(&self, location: &str) -> Result<Url, HubProblem> {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let host = self.0.authority().map_or("", |a| a.as_str());
        let has_scheme = location.split_once(':').is_some_and(|(s, _)| !s.contains(['/', '?', '#']) && !s.is_empty());
        let text = if has_scheme {
            location.to_owned()
        } else if location.starts_with("//") {
            format!("{scheme}:{location}")
        } else if location.starts_with('/') {
            format!("{scheme}://{host}{location}")
        } else {
            let folder = self.0.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{host}{folder}/{location}")
        };
        let to = Url::parse(&text).map_err(|why| HubProblem::Redirect(why.into()))?;
        if scheme == "https" && to.0.scheme_str() == Some("http") {
            return Err(HubProblem::Redirect(format!("from https to plain http ({to})")));
        }
        Ok(to)
    }

    /// Whether both have the same scheme, host and port: only then may a secret for one go to the other.
    pub fn same_origin(&self, other: &Url) -> bool {
        let port = |url: &Url| url.0.port_u16().unwrap_or(if url.0.scheme_str() == Some("https") { 443 } else { 80 });
        let host = |url: &Url| url.0.host().unwrap_or_default().to_ascii_lowercase();
        self.0.scheme_str() == other.0.scheme_str() && host(self) == host(other) && port(self) == port(other)
    }

    /// The whole address, for the request.
    pub fn request(&self) -> String {
        self.0.to_string()
    }
}

/// Without the query, which can hold signatures.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.0.authority().map_or("", |a| a.as_str());
        write!(f, "{}://{host}{}", self.0.scheme_str().unwrap_or_default(), self.0.path())
    }
}

/// An address as a person typed it, well-formed or not, without what may be secret in it: user name, password, query.
pub fn redacted(address: &str) -> String {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), address),
    };
    // A password may hold slashes and question marks as they are: all up to the last @ is left out.
    let (hidden, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, host)| ("***@", host));
    let rest = rest.split_once(['?', '#']).map_or(rest.to_owned(), |(shown, _)| format!("{shown}?***"));
    format!("{scheme}{hidden}{rest}")
}

/// A text that may hold addresses with their user names and passwords left out.
pub fn redacted_text(text: &str) -> String {
    let word =
        |word: &str| match word.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?))) {
            Some((scheme, (_, host))) => format!("{scheme}://***@{host}"),
            None => word.to_owned(),
        };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// `text` with all but letters, digits and `-._~` escaped, and slashes if `whole`.
pub fn escape(text: &str, whole: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (byte == b'/' && !whole);
        if plain { out.push(char::from(byte)) } else { out += &format!("%{byte:02X}") }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections_are_resolved_and_downgrades_refused() {
        let from = Url::parse("https://hub.example/a/b?q=secret").expect("an address");
        let to = |location: &str| from.follow(location).map(|url| url.request());
        assert_eq!(to("/c?d"), Ok("https://hub.example/c?d".into()));
        assert_eq!(to("c"), Ok("https://hub.example/a/c".into()));
        assert_eq!(to("//cdn.example/x"), Ok("https://cdn.example/x".into()));
        assert_eq!(to("https://cdn.example/x:y"), Ok("https://cdn.example/x:y".into()));
        for bad in ["http://hub.example/", "file:///etc/passwd", "ftp://x/y", "https://u:p@x/", "https://", "data:,x"] {
            assert!(matches!(to(bad), Err(HubProblem::Redirect(_))), "{bad}");
        }
        assert_eq!(from.to_string(), "https://hub.example/a/b");
    }

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        for (address, shown) in [
            ("https://user:PW@mirror/x", "https://***@mirror/x"),
            ("https://user:P@W/Q?R@mirror", "https://***@mirror"),
            ("user:PW@mirror", "***@mirror"),
            ("ftp://PW@mirror", "ftp://***@mirror"),
            ("https://mirror/?token=PW", "https://mirror/?***"),
            ("https://mirror:8080/a", "https://mirror:8080/a"),
        ] {
            assert_eq!(redacted(address), shown);
        }
        assert_eq!(redacted_text("no proxy at http://u:PW@h:1 today"), "no proxy at http://***@h:1 today");
    }

    #[test]
    fn origins_are_scheme_host_and_port() {
        let url = |text: &str| Url::parse(text).expect("an address");
        let hub = url("https://hub.example/x");
        assert!(hub.same_origin(&url("https://HUB.example:443/y")));
        for other in
            ["http://hub.example/", "https://hub.example:8443/", "https://hub.example.evil/", "https://a.hub.example/"]
        {
            assert!(!hub.same_origin(&url(other)), "{other}");
        }
        assert_eq!(hub.join("/api").map(|u| u.request()), Ok("https://hub.example/x/api".into()));
        assert_eq!(escape("refs/pr/1 ü", true), "refs%2Fpr%2F1%20%C3%BC");
    }
}
