//! What a request for an operator's page presents besides its path.

use httparse::{EMPTY_HEADER, Request};

use super::Fields;
use crate::limits::HEAD_HEADERS_MAX;

/// The query and two header fields, as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// What stands behind the `?`.
    pub query: String,
    /// `Authorization`.
    pub authorization: Option<String>,
    /// `X-Relay-Admin-Token`.
    pub admin_token: Option<String>,
}

impl Presented {
    /// Reads a head that [`super::parse`] has taken.
    pub fn read(head: &[u8]) -> Presented {
        let mut headers = [EMPTY_HEADER; HEAD_HEADERS_MAX];
        let mut request = Request::new(&mut headers);
        if request.parse(head).is_err() {
            return Presented::default();
        }
        let query = request.path.and_then(|target| target.split_once('?')).map_or("", |(_, query)| query);
        let fields = Fields(request.headers);
        let first = |name| fields.values(name).next().map(str::to_owned);
        Presented {
            query: query.to_owned(),
            authorization: first("authorization"),
            admin_token: first("x-relay-admin-token"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_field_and_the_query_are_read() {
        let head = "GET /logs?summary=1 HTTP/1.1\r\nHost: x\r\nauthorization:  Bearer a \r\nAuthorization: b\r\n\
            X-RELAY-ADMIN-TOKEN: c\r\n\r\n";
        let presented = Presented::read(head.as_bytes());
        assert_eq!(presented.query, "summary=1");
        assert_eq!(presented.authorization.as_deref(), Some("Bearer a"));
        assert_eq!(presented.admin_token.as_deref(), Some("c"));
        let bare = Presented::read(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(bare, Presented::default());
    }
}
