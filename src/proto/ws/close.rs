//! Close frames' payloads (RFC 6455 sections 5.5.1 and 7.4).

use crate::reason::Reason;

/// Checks a close frame's payload: the code it holds, `None` where it is empty.
///
/// One byte or a code that may not be sent is [`Reason::ProtocolError`], a text that is not UTF-8
/// [`Reason::BadUtf8`].
pub fn decode(payload: &[u8]) -> Result<Option<u16>, Reason> {
    match payload {
        [] => Ok(None),
        [_] => Err(Reason::ProtocolError),
        [high, low, text @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !may_be_sent(code) {
                Err(Reason::ProtocolError)
            } else if std::str::from_utf8(text).is_err() {
                Err(Reason::BadUtf8)
            } else {
                Ok(Some(code))
            }
        }
    }
}

/// Whether a code may be on the wire: registered ones (IANA, up to 1014), and those of libraries and
/// applications. 1004 is reserved; 1005, 1006 and 1015 stand for what no frame said.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_that_may_be_sent_are_accepted_and_no_others() {
        for code in 0..=u16::MAX {
            let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014]
                .contains(&code)
                || (3000..5000).contains(&code);
            let want = if valid { Ok(Some(code)) } else { Err(Reason::ProtocolError) };
            assert_eq!(decode(&code.to_be_bytes()), want, "{code}");
        }
    }

    #[test]
    fn a_payload_is_empty_or_a_code_and_utf8() {
        assert_eq!(decode(b""), Ok(None));
        assert_eq!(decode(&[0x03]), Err(Reason::ProtocolError));
        assert_eq!(decode(b"\x03\xe8bye \xe2\x9c\x8b"), Ok(Some(1000)));
        assert_eq!(decode(b"\x03\xe8\xe2\x9c"), Err(Reason::BadUtf8)); // a character cut short
        assert_eq!(decode(b"\x03\xe8\xed\xa0\x80"), Err(Reason::BadUtf8)); // a surrogate
    }
}
