//! Numbers as ECMAScript writes them: what the workspace contract's variables are read by (workspace.md section 22).

/// A finite whole number above zero, as `Number(text)` reads it; above 2^64 it is that. `None` where it is none.
pub(super) fn positive_integer(text: &str) -> Option<u64> {
    let number = number(text.trim_matches(is_space))?;
    // Beyond 2^53 the text's last digits are lost, as in the reference; the cast saturates.
    (number.is_finite() && number.fract() == 0.0 && number > 0.0).then_some(number as u64)
}

/// What JavaScript trims: Unicode's spaces and the byte order mark, but not NEL.
fn is_space(character: char) -> bool {
    character == '\u{feff}' || character.is_whitespace() && character != '\u{85}'
}

fn number(text: &str) -> Option<f64> {
    let with_prefix = |lower: &str, upper: &str, radix| {
        let digits = text.strip_prefix(lower).or_else(|| text.strip_prefix(upper))?;
        let value = |sum: f64, digit: char| Some(sum * f64::from(radix) + f64::from(digit.to_digit(radix)?));
        if digits.is_empty() { None } else { digits.chars().try_fold(0.0, value) }
    };
    // Rust's decimals are ECMAScript's, but for the words that it takes as well.
    let is_decimal = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if is_decimal {
        return text.parse().ok();
    }
    with_prefix("0x", "0X", 16).or_else(|| with_prefix("0o", "0O", 8)).or_else(|| with_prefix("0b", "0B", 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_above_zero_are_read_in_every_notation() {
        for (text, number) in [
            ("8080", 8080),
            (" 99 ", 99),
            ("\u{feff}\t7\u{a0}\n", 7),
            ("1e4", 10_000),
            ("0x1F90", 8080),
            ("0b101", 5),
            ("0o17", 15),
            ("+5", 5),
            ("5.", 5),
            ("5.0", 5),
            ("0.5e1", 5),
            ("010", 10),
            ("1e300", u64::MAX),
        ] {
            assert_eq!(positive_integer(text), Some(number), "{text:?}");
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "", " ", "0", "-1", "1.5", "abc", "8080abc", "Infinity", "inf", "NaN", "1e400", "0x", "-0x1",
            "0xg", "1_000", "1,000", ".", "e", "1e", "\u{85}7", "5n",
        ] {
            assert_eq!(positive_integer(text), None, "{text:?}");
        }
    }
}
