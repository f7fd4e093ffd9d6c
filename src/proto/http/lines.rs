//! A request head as it was sent, for contracts that judge upgrades by rules of their own.

use httparse::{EMPTY_HEADER, Header, Request};
use url::Url;

use crate::limits::HEAD_HEADERS_MAX;

/// The request line and the header fields. Borrows the head.
#[derive(Debug)]
pub struct Lines<'a> {
    /// The method, as sent.
    pub method: &'a str,
    /// The target, as sent.
    pub target: &'a str,
    fields: Vec<Header<'a>>,
}

impl<'a> Lines<'a> {
    /// Reads a whole head; `None` for one that [`super::parse`] does not take either.
    pub fn read(head: &'a [u8]) -> Option<Lines<'a>> {
        let mut fields = vec![EMPTY_HEADER; HEAD_HEADERS_MAX];
        let mut request = Request::new(&mut fields);
        request.parse(head).ok()?;
        let (method, target, count) = (request.method?, request.path?, request.headers.len());
        fields.truncate(count);
        Some(Lines { method, target, fields })
    }

    /// The first line of a field, every byte a character, trimmed.
    pub fn first(&self, name: &str) -> Option<String> {
        self.values(name).next()
    }

    /// All lines of a field in order, joined as a list, every byte a character, trimmed.
    pub fn joined(&self, name: &str) -> Option<String> {
        let values: Vec<String> = self.values(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    fn values(&self, name: &str) -> impl Iterator<Item = String> {
        let lines = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        lines.map(|field| field.value.trim_ascii().iter().copied().map(char::from).collect())
    }
}

/// What a target names at a host, as a WHATWG URL parser sees it; `None` where it sees no URL.
pub fn resolve(host: &str, target: &str) -> Option<Url> {
    Url::parse(&format!("http://{host}")).ok()?.join(target).ok()
}
