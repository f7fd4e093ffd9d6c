//! Who is let in to the operator's pages (workspace.md section 2.1).

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// The operator's token, as its digest, and whether the public port has the pages at all.
#[derive(Clone, Default)]
pub struct Access {
    is_on: bool,
    digest: Option<[u8; 32]>,
}

/// What a request to the public port is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// There are no such pages.
    Disabled,
    /// Not without the token.
    Unauthorized,
    /// Come in.
    Welcome,
}

impl Access {
    /// Pages on the public port where `is_on`, for who presents `token`; without a token for nobody.
    pub fn new(is_on: bool, token: Option<&Secret>) -> Access {
        Access { is_on, digest: token.map(|token| digest(token.reveal().trim())) }
    }

    /// Whether the public port has the pages.
    pub fn is_on(&self) -> bool {
        self.is_on
    }

    /// Judges a request to the public port by what it presents.
    pub fn judge(&self, presented: Option<&str>) -> Verdict {
        match (self.is_on, self.is_operator(presented)) {
            (false, _) => Verdict::Disabled,
            (true, false) => Verdict::Unauthorized,
            (true, true) => Verdict::Welcome,
        }
    }

    /// Whether this is the operator's token. Takes as long for a wrong one as for the right one: what is compared are
    /// digests, and all of them.
    pub fn is_operator(&self, presented: Option<&str>) -> bool {
        let (Some(expected), Some(presented)) = (&self.digest, presented) else { return false };
        expected.ct_eq(&digest(presented)).into()
    }
}

/// The digest is of no use to who sees it, but of no use in a log either.
impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Access").field("is_on", &self.is_on).finish_non_exhaustive()
    }
}

/// What a request presents: the bearer token of `Authorization`, also a wrong one, or else `X-Relay-Admin-Token`.
pub fn presented<'a>(authorization: Option<&'a str>, header: Option<&'a str>) -> Option<&'a str> {
    authorization.and_then(bearer).or_else(|| header.map(str::trim).filter(|token| !token.is_empty()))
}

/// The token after `Bearer`, in any case, and white space.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, rest) = authorization.trim_start().split_at_checked(6)?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer") && rest.starts_with(char::is_whitespace);
    Some(rest.trim()).filter(|token| is_bearer && !token.is_empty())
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token: &str) -> Access {
        Access::new(true, Some(&Secret::new(token)))
    }

    #[test]
    fn only_the_token_is_let_in_and_the_configured_one_is_trimmed() {
        let access = access(" correct horse ");
        assert_eq!(access.judge(Some("correct horse")), Verdict::Welcome);
        for wrong in [None, Some(""), Some("correct hors"), Some("correct horse "), Some("CORRECT HORSE")] {
            assert_eq!(access.judge(wrong), Verdict::Unauthorized, "{wrong:?}");
        }
    }

    #[test]
    fn without_a_token_nobody_is_let_in_and_switched_off_there_is_nothing() {
        for presented in [None, Some(""), Some("x")] {
            assert_eq!(Access::new(true, None).judge(presented), Verdict::Unauthorized);
        }
        let off = Access::new(false, Some(&Secret::new("x")));
        assert_eq!(off.judge(Some("x")), Verdict::Disabled);
        assert!(off.is_operator(Some("x")));
    }

    #[test]
    fn a_bearer_token_beats_the_other_header_also_a_wrong_one() {
        for (authorization, header, expected) in [
            (Some("Bearer a"), None, Some("a")),
            (Some("bearer \t a "), Some("b"), Some("a")),
            (Some("BEARER a b"), None, Some("a b")),
            (Some("Bearer wrong"), Some("right"), Some("wrong")),
            (Some("Basic a"), Some(" b "), Some("b")),
            (Some("Bearer"), Some("b"), Some("b")),
            (Some("Bearer  "), Some("b"), Some("b")),
            (Some("Bearera"), Some("b"), Some("b")),
            (Some("Bear\u{e9}r a"), None, None),
            (None, Some("  "), None),
            (None, None, None),
        ] {
            assert_eq!(presented(authorization, header), expected, "{authorization:?} {header:?}");
        }
    }

    #[test]
    fn it_does_not_show_its_digest() {
        assert_eq!(format!("{:?}", access("x")), "Access { is_on: true, .. }");
    }
}
