//! Carrying a worker's request to the platform and the answer back (workspace.md section 9.3).
//!
//! The dialect has checked the path and filtered the request's headers. Here the request stays within the platform's
//! origin, redirects included (O3), over the platform's own TLS settings (O30), and the answer within a size. One
//! thing differs from the reference: of an answer that came compressed the text is passed on, so `content-encoding`
//! and `content-length`, which would speak of something else, are not.

use reqwest::{
    Method, Url,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

use super::{
    desk::Desk,
    outbound::{Failure, read},
};
use crate::dialect::workspace::{self, Response};

/// Sends the request and reads the whole answer. Errors: why there is none, for the log.
pub(super) async fn forward(
    desk: &Desk,
    method: workspace::Method,
    path: &str,
    headers: &[(String, String)],
    body: Option<String>,
) -> Result<Response, String> {
    let url = resolve(&desk.config.origin, path).ok_or("the path leads elsewhere")?;
    let mut headers = header_map(headers).ok_or("a header cannot be sent")?;
    let mut request = desk.requests.client().request(method_of(method), url);
    if let Some(body) = body {
        let plain_text = HeaderValue::from_static("text/plain;charset=UTF-8");
        headers.entry(CONTENT_TYPE).or_insert(plain_text);
        if body.is_empty() {
            // Said of a body that is empty, too: some servers insist on knowing.
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        request = request.body(body);
    }
    let broken = |failure| match failure {
        Failure::TooLong => "the answer is too long".to_owned(),
        Failure::Broken(why) => why,
    };
    let response = request.headers(headers).send().await.map_err(|error| broken(error.into()))?;
    let status = response.status().as_u16();
    let headers = header_list(response.headers());
    let size: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    let room = desk.config.forward_bytes_max.checked_sub(size).ok_or("the answer's headers are too long")?;
    let body = read(response, room).await.map_err(broken)?;
    Ok(Response { status, headers, body: text(&body) })
}

/// The path at the platform, `None` where it means another one than it says: backslashes become slashes when a URL is
/// made of them, and dot segments in any spelling take some away. The dialect refuses those; this is what keeps a
/// spelling that it does not know of from mattering.
fn resolve(origin: &Url, path: &str) -> Option<Url> {
    let slashes = |path: &str| path.bytes().filter(|byte| *byte == b'/').count();
    let mut url = origin.join(path).ok()?;
    url.set_fragment(None);
    let said = path.split(['?', '#']).next().unwrap_or(path);
    let is_plain = !said.contains('\\') && slashes(url.path()) == slashes(said);
    (is_plain && url.origin() == origin.origin()).then_some(url)
}

/// The headers, spaces around the values taken off and characters as Latin-1, as `fetch` sends them; `None` where one
/// has no such form.
fn header_map(headers: &[(String, String)]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let value = value.trim_matches(['\t', '\n', '\r', ' ']);
        let bytes: Option<Vec<u8>> = value.chars().map(|character| u8::try_from(character).ok()).collect();
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        map.append(name, HeaderValue::from_bytes(&bytes?).ok()?);
    }
    Some(map)
}

/// What a worker is shown of an answer's headers: names in lower case and in order, repeated ones joined.
fn header_list(headers: &HeaderMap) -> Vec<(String, String)> {
    let mut names: Vec<_> = headers.keys().filter(|name| !WITHHELD.contains(&name.as_str())).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    let latin_1 = |value: &HeaderValue| value.as_bytes().iter().copied().map(char::from).collect::<String>();
    let joined =
        |name: &HeaderName| headers.get_all(name).into_iter().map(latin_1).collect::<Vec<_>>().join(", ");
    names.into_iter().map(|name| (name.as_str().to_owned(), joined(name))).collect()
}

/// A body as text: UTF-8, a mark of its byte order taken off, what is not UTF-8 replaced.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)).into_owned()
}

fn method_of(method: workspace::Method) -> Method {
    match method {
        workspace::Method::Get => Method::GET,
        workspace::Method::Post => Method::POST,
        workspace::Method::Patch => Method::PATCH,
    }
}

/// An answer's headers that are not for workers.
const WITHHELD: [&str; 3] = ["authorization", "cookie", "set-cookie"];

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> Url {
        Url::parse("https://platform.example:8443/prefix?x").expect("a URL")
    }

    #[test]
    fn a_path_is_resolved_at_the_origin_without_its_fragment() {
        for (path, url) in [
            ("/api/x", "https://platform.example:8443/api/x"),
            ("/api/x?y=/../z&a=%2e#f", "https://platform.example:8443/api/x?y=/../z&a=%2e"),
            ("/api/a%2Fb", "https://platform.example:8443/api/a%2Fb"),
            ("/api/\u{e9} b", "https://platform.example:8443/api/%C3%A9%20b"),
        ] {
            assert_eq!(resolve(&origin(), path).map(String::from).as_deref(), Some(url));
        }
    }

    #[test]
    fn a_path_that_leads_elsewhere_is_none() {
        for path in [
            "//evil.example/api",
            "https://evil.example/api/x/",
            "/api/../x",
            "/api/./x",
            "/api/%2e%2E/x",
            "/api/.%2e",
            "/api\\..\\x",
            "/api/.\t./x",
            "/api/x/..",
        ] {
            assert_eq!(resolve(&origin(), path), None, "{path:?}");
        }
    }

    #[test]
    fn headers_are_sent_as_latin_1_or_not_at_all() {
        let map = |value: &str| header_map(&[("X-Viewport-Run-Lease".into(), value.into())]);
        let sent =
            |value: &str| map(value).and_then(|map| map.values().next().map(|it| it.as_bytes().to_vec()));
        assert_eq!(sent(" \ta b\r\n"), Some(b"a b".to_vec()));
        assert_eq!(sent("\u{e9}"), Some(vec![0xe9]));
        assert_eq!(sent("a\nb"), None);
        assert_eq!(sent("\u{20ac}"), None);
    }

    #[test]
    fn the_workers_answer_has_sorted_lower_case_names_and_no_cookies() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("X-B", "1"), ("Set-Cookie", "s"), ("X-A", "2"), ("X-B", "3"), ("Cookie", "c")]
        {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.insert("authorization", HeaderValue::from_static("a"));
        let listed = header_list(&headers);
        assert_eq!(listed, [("x-a".to_owned(), "2".to_owned()), ("x-b".to_owned(), "1, 3".to_owned())]);
    }

    #[test]
    fn bodies_are_text() {
        assert_eq!(text(b"\xef\xbb\xbfx\xff"), "x\u{fffd}");
        assert_eq!(text(b""), "");
    }
}
