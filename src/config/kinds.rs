//! The kinds of option values: how each is written, read and shown.
//!
//! A [`Kind`] reads a text into a typed value or says no; what it would have accepted is in [`Kind::takes`],
//! which ends the sentence "`--flag` takes ..." in messages, in the help and in the documentation. Nothing
//! here knows where a text came from.

use std::{
    marker::PhantomData,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use tungstenite::http::Uri;

use crate::{dialect, logs, secret::Secret};

/// A way of writing values of one type.
pub(super) trait Kind {
    /// The typed value.
    type Value;
    /// Stands for the value in the help.
    fn hint(&self) -> &'static str;
    /// What is accepted, as the end of a sentence.
    fn takes(&self) -> String;
    /// Reads a value; `None` when it is not one, or out of range.
    fn read(&self, text: &str) -> Option<Self::Value>;
    /// The value as TOML that reads back as the same value.
    fn show(&self, value: &Self::Value) -> toml::Value;
    /// Whether a flag may be repeated, each adding to a list.
    fn is_list(&self) -> bool {
        false
    }
    /// Whether the bare flag, without a value, turns the option on.
    fn is_switch(&self) -> bool {
        false
    }
    /// Whether a value is never shown.
    fn is_secret(&self) -> bool {
        false
    }
}

/// A type whose values are a few words.
pub(super) trait Words: Copy + PartialEq + 'static {
    /// Every value with its word.
    const WORDS: &'static [(&'static str, Self)];
}

/// A whole number in a range.
pub(super) struct Whole<T> {
    min: u64,
    max: u64,
    zero: Option<&'static str>,
    power_of_two: bool,
    value: PhantomData<T>,
}

/// A whole number from `min` to `max`, which must fit `T`.
pub(super) fn whole<T>(min: u64, max: u64) -> Whole<T> {
    Whole { min, max, zero: None, power_of_two: false, value: PhantomData }
}

impl<T> Whole<T> {
    /// Says what zero means.
    pub(super) fn zero(self, zero: &'static str) -> Whole<T> {
        Whole { zero: Some(zero), ..self }
    }

    /// Takes powers of two only.
    pub(super) fn power_of_two(self) -> Whole<T> {
        Whole { power_of_two: true, ..self }
    }
}

impl<T: TryFrom<u64> + Copy + Into<u64>> Kind for Whole<T> {
    type Value = T;
    fn hint(&self) -> &'static str {
        "N"
    }
    fn takes(&self) -> String {
        let power = if self.power_of_two { ", a power of two" } else { "" };
        let zero = self.zero.map(|zero| format!("; 0 is {zero}")).unwrap_or_default();
        format!("a whole number from {} to {}{power}{zero}", self.min, self.max)
    }
    fn read(&self, text: &str) -> Option<T> {
        let number = digits(text)?;
        let fits =
            (self.min..=self.max).contains(&number) && (!self.power_of_two || number.is_power_of_two());
        fits.then(|| T::try_from(number).ok())?
    }
    fn show(&self, value: &T) -> toml::Value {
        number((*value).into())
    }
}

/// `auto`, or a whole number from 1 up; read as `None`, or the number.
pub(super) struct AutoOr {
    /// The largest number.
    pub max: u16,
}

impl Kind for AutoOr {
    type Value = Option<u16>;
    fn hint(&self) -> &'static str {
        "N"
    }
    fn takes(&self) -> String {
        format!("`auto` (or 0), or a whole number from 1 to {}", self.max)
    }
    fn read(&self, text: &str) -> Option<Option<u16>> {
        match text {
            "auto" | "0" => Some(None),
            _ => whole(1, self.max.into()).read(text).map(Some),
        }
    }
    fn show(&self, value: &Option<u16>) -> toml::Value {
        value.map_or_else(|| "auto".into(), |value| i64::from(value).into())
    }
}

/// A number of bytes, with an optional unit; as `usize`.
pub(super) struct Bytes {
    /// The smallest value other than a zero that `zero` allows.
    pub min: usize,
    /// The largest value.
    pub max: usize,
    /// What zero means, if it is allowed below `min`.
    pub zero: Option<&'static str>,
    /// Whether only powers of two will do.
    pub power_of_two: bool,
}

impl Kind for Bytes {
    type Value = usize;
    fn hint(&self) -> &'static str {
        "BYTES"
    }
    fn takes(&self) -> String {
        let power = if self.power_of_two { ", a power of two" } else { "" };
        let zero = self.zero.map(|zero| format!(", or 0 ({zero})")).unwrap_or_default();
        format!(
            "a size such as 65536, 64KiB or 1MiB from {} to {}{power}{zero}",
            size_text(self.min),
            size_text(self.max)
        )
    }
    fn read(&self, text: &str) -> Option<usize> {
        let bytes = usize::try_from(unit_of(text, BYTE_UNITS)?).ok()?;
        let fits = (self.min..=self.max).contains(&bytes) && (!self.power_of_two || bytes.is_power_of_two());
        (fits || bytes == 0 && self.zero.is_some()).then_some(bytes)
    }
    fn show(&self, value: &usize) -> toml::Value {
        toml::Value::String(size_text(*value))
    }
}

/// A span of time; a bare number is seconds.
pub(super) struct Span {
    /// The shortest span other than a zero that `zero` allows.
    pub min: Duration,
    /// The longest span.
    pub max: Duration,
    /// What zero means, if it is allowed below `min`.
    pub zero: Option<&'static str>,
}

impl Kind for Span {
    type Value = Duration;
    fn hint(&self) -> &'static str {
        "TIME"
    }
    fn takes(&self) -> String {
        let zero = self.zero.map(|zero| format!(", or 0 ({zero})")).unwrap_or_default();
        format!(
            "a time such as 500ms, 30s, 5m or 2h (a bare number is seconds) from {} to {}{zero}",
            span_text(self.min),
            span_text(self.max)
        )
    }
    fn read(&self, text: &str) -> Option<Duration> {
        let text =
            if text.bytes().all(|byte| byte.is_ascii_digit()) { format!("{text}s") } else { text.into() };
        let span = Duration::from_millis(unit_of(&text, TIME_UNITS)?);
        ((self.min..=self.max).contains(&span) || span.is_zero() && self.zero.is_some()).then_some(span)
    }
    fn show(&self, value: &Duration) -> toml::Value {
        toml::Value::String(span_text(*value))
    }
}

/// On or off.
pub(super) struct Switch;

impl Kind for Switch {
    type Value = bool;
    fn hint(&self) -> &'static str {
        "BOOL"
    }
    fn takes(&self) -> String {
        "true or false".into()
    }
    fn read(&self, text: &str) -> Option<bool> {
        match text {
            "true" | "1" | "on" | "yes" => Some(true),
            "false" | "0" | "off" | "no" => Some(false),
            _ => None,
        }
    }
    fn show(&self, value: &bool) -> toml::Value {
        (*value).into()
    }
    fn is_switch(&self) -> bool {
        true
    }
}

/// On, off, or `auto` (read as `None`).
pub(super) struct AutoSwitch;

impl Kind for AutoSwitch {
    type Value = Option<bool>;
    fn hint(&self) -> &'static str {
        "BOOL"
    }
    fn takes(&self) -> String {
        "true, false or auto".into()
    }
    fn read(&self, text: &str) -> Option<Option<bool>> {
        match text {
            "auto" => Some(None),
            _ => Switch.read(text).map(Some),
        }
    }
    fn show(&self, value: &Option<bool>) -> toml::Value {
        value.map_or_else(|| "auto".into(), toml::Value::Boolean)
    }
    fn is_switch(&self) -> bool {
        true
    }
}

/// One of a few words.
pub(super) struct OneOf<T>(PhantomData<T>);

/// One of the words of `T`.
pub(super) fn one_of<T: Words>() -> OneOf<T> {
    OneOf(PhantomData)
}

impl<T: Words> Kind for OneOf<T> {
    type Value = T;
    fn hint(&self) -> &'static str {
        "WORD"
    }
    fn takes(&self) -> String {
        let words: Vec<_> = T::WORDS.iter().map(|(word, _)| *word).collect();
        format!("one of {}", words.join(", "))
    }
    fn read(&self, text: &str) -> Option<T> {
        T::WORDS.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
    }
    fn show(&self, value: &T) -> toml::Value {
        let (word, _) = T::WORDS.iter().find(|(_, other)| other == value).expect("every value has its word");
        (*word).into()
    }
}

/// A list of socket addresses.
pub(super) struct Addresses;

impl Kind for Addresses {
    type Value = Vec<SocketAddr>;
    fn hint(&self) -> &'static str {
        "ADDR:PORT"
    }
    fn takes(&self) -> String {
        "addresses with ports such as 127.0.0.1:8080 or [::]:8080, separated by commas".into()
    }
    fn read(&self, text: &str) -> Option<Vec<SocketAddr>> {
        entries(text).map(|entry| entry.parse().ok()).collect()
    }
    fn show(&self, value: &Vec<SocketAddr>) -> toml::Value {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().into()
    }
    fn is_list(&self) -> bool {
        true
    }
}

/// A list of IP addresses, `localhost` for 127.0.0.1.
pub(super) struct Hosts;

impl Kind for Hosts {
    type Value = Vec<IpAddr>;
    fn hint(&self) -> &'static str {
        "ADDR"
    }
    fn takes(&self) -> String {
        "IP addresses such as 127.0.0.1 or ::, separated by commas (no host names but localhost)".into()
    }
    fn read(&self, text: &str) -> Option<Vec<IpAddr>> {
        entries(text)
            .map(|entry| match entry {
                "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
                _ => entry.trim_start_matches('[').trim_end_matches(']').parse().ok(),
            })
            .collect()
    }
    fn show(&self, value: &Vec<IpAddr>) -> toml::Value {
        value.iter().map(ToString::to_string).collect::<Vec<_>>().into()
    }
    fn is_list(&self) -> bool {
        true
    }
}

/// One socket address, or `off`.
pub(super) struct AddressOrOff;

impl Kind for AddressOrOff {
    type Value = Option<SocketAddr>;
    fn hint(&self) -> &'static str {
        "ADDR:PORT"
    }
    fn takes(&self) -> String {
        "an address with a port such as 127.0.0.1:9090, or off".into()
    }
    fn read(&self, text: &str) -> Option<Option<SocketAddr>> {
        match text {
            "off" => Some(None),
            _ => text.parse().ok().map(Some),
        }
    }
    fn show(&self, value: &Option<SocketAddr>) -> toml::Value {
        value.map_or_else(|| "off".into(), |address| address.to_string().into())
    }
}

/// The dialects to serve; `auto` is read as none.
pub(super) struct DialectNames;

impl Kind for DialectNames {
    type Value = Vec<dialect::Kind>;
    fn hint(&self) -> &'static str {
        "NAMES"
    }
    fn takes(&self) -> String {
        let names: Vec<_> = dialect::Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("auto, or names of dialects separated by commas; this version serves: {}", names.join(", "))
    }
    fn read(&self, text: &str) -> Option<Vec<dialect::Kind>> {
        if text == "auto" {
            return Some(Vec::new());
        }
        let mut kinds = Vec::new();
        for entry in entries(text) {
            let kind = dialect::Kind::ALL.into_iter().find(|kind| kind.name() == entry)?;
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        (!kinds.is_empty()).then_some(kinds)
    }
    fn show(&self, value: &Vec<dialect::Kind>) -> toml::Value {
        value.iter().map(|kind| kind.name()).collect::<Vec<_>>().into()
    }
    fn is_list(&self) -> bool {
        true
    }
}

/// A log filter: a level, or `target=level` entries.
pub(super) struct LogFilter;

impl Kind for LogFilter {
    type Value = logs::Filter;
    fn hint(&self) -> &'static str {
        "FILTER"
    }
    fn takes(&self) -> String {
        "a level (error, warn, info, debug, trace, off) or a list such as info,longsplice::shard=debug".into()
    }
    fn read(&self, text: &str) -> Option<logs::Filter> {
        logs::Filter::parse(text)
    }
    fn show(&self, value: &logs::Filter) -> toml::Value {
        value.to_string().into()
    }
}

/// Any text, as it is; repeated flags and lists are joined by commas.
pub(super) struct Text;

impl Kind for Text {
    type Value = String;
    fn hint(&self) -> &'static str {
        "TEXT"
    }
    fn takes(&self) -> String {
        "text".into()
    }
    fn read(&self, text: &str) -> Option<String> {
        Some(text.into())
    }
    fn show(&self, value: &String) -> toml::Value {
        value.clone().into()
    }
    fn is_list(&self) -> bool {
        true
    }
}

/// One text, trimmed; empty is none.
pub(super) struct OptionalText;

impl Kind for OptionalText {
    type Value = Option<String>;
    fn hint(&self) -> &'static str {
        "TEXT"
    }
    fn takes(&self) -> String {
        "text".into()
    }
    fn read(&self, text: &str) -> Option<Option<String>> {
        Some(Some(text.to_owned()).filter(|text| !text.is_empty()))
    }
    fn show(&self, value: &Option<String>) -> toml::Value {
        value.clone().unwrap_or_default().into()
    }
}

/// One text that nobody may see; empty is none.
pub(super) struct SecretText;

impl Kind for SecretText {
    type Value = Option<Secret>;
    fn hint(&self) -> &'static str {
        "SECRET"
    }
    fn takes(&self) -> String {
        "text; better given by the environment or the file than on the command line, which other users can see".into()
    }
    fn read(&self, text: &str) -> Option<Option<Secret>> {
        Some((!text.is_empty()).then(|| Secret::new(text)))
    }
    fn show(&self, _: &Option<Secret>) -> toml::Value {
        "".into()
    }
    fn is_secret(&self) -> bool {
        true
    }
}

/// An origin (a host name, perhaps with a port): lower-cased and trimmed; empty is none.
pub(super) struct Origin;

impl Kind for Origin {
    type Value = Option<String>;
    fn hint(&self) -> &'static str {
        "HOST"
    }
    fn takes(&self) -> String {
        "a host name as clients write it in the URL, with its port if that is not the scheme's own".into()
    }
    fn read(&self, text: &str) -> Option<Option<String>> {
        Some(Some(text.trim().to_lowercase()).filter(|origin| !origin.is_empty()))
    }
    fn show(&self, value: &Option<String>) -> toml::Value {
        value.clone().unwrap_or_default().into()
    }
}

/// The URL of a WebSocket server, without a path; empty is none.
pub(super) struct WebSocketUrl;

impl Kind for WebSocketUrl {
    type Value = Option<String>;
    fn hint(&self) -> &'static str {
        "URL"
    }
    fn takes(&self) -> String {
        "a URL such as wss://relay.example or ws://192.0.2.1:8080: ws or wss, a host, perhaps a port, and no path, \
         because clients add their own"
            .into()
    }
    fn read(&self, text: &str) -> Option<Option<String>> {
        if text.is_empty() {
            return Some(None);
        }
        // A slash behind the host is no path, but clients would make a double one of it.
        let text = text.strip_suffix('/').unwrap_or(text);
        let url: Uri = text.parse().ok()?;
        let authority = url.authority()?;
        let fits = matches!(url.scheme_str(), Some("ws" | "wss"))
            && url.path_and_query().is_none_or(|path| path == "/")
            && !authority.host().is_empty()
            && authority
                .as_str()
                .strip_prefix(authority.host())
                .is_some_and(|port| port.is_empty() || authority.port_u16().is_some_and(|number| number > 0))
            // Parsing drops a fragment without a word.
            && !text.contains(['?', '#']);
        fits.then(|| Some(text.to_owned()))
    }
    fn show(&self, value: &Option<String>) -> toml::Value {
        value.clone().unwrap_or_default().into()
    }
}

/// Origins as browsers send them, or `*` (read as `None`) for all.
pub(super) struct Origins;

impl Kind for Origins {
    type Value = Option<Vec<String>>;
    fn hint(&self) -> &'static str {
        "ORIGINS"
    }
    fn takes(&self) -> String {
        "`*`, or origins such as https://app.example separated by commas".into()
    }
    fn read(&self, text: &str) -> Option<Option<Vec<String>>> {
        if text == "*" {
            return Some(None);
        }
        let origins: Vec<String> = entries(text).map(str::to_owned).collect();
        let fits =
            !origins.is_empty() && origins.iter().all(|origin| origin != "*" && !origin.ends_with('/'));
        fits.then_some(Some(origins))
    }
    fn show(&self, value: &Option<Vec<String>>) -> toml::Value {
        value.clone().map_or_else(|| "*".into(), Into::into)
    }
    fn is_list(&self) -> bool {
        true
    }
}

/// The path of a file; empty is none.
pub(super) struct File;

impl Kind for File {
    type Value = Option<PathBuf>;
    fn hint(&self) -> &'static str {
        "FILE"
    }
    fn takes(&self) -> String {
        "the path of a file".into()
    }
    fn read(&self, text: &str) -> Option<Option<PathBuf>> {
        Some(Some(PathBuf::from(text)).filter(|path| !path.as_os_str().is_empty()))
    }
    fn show(&self, value: &Option<PathBuf>) -> toml::Value {
        value.as_ref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default().into()
    }
}

fn entries(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|entry| !entry.is_empty())
}

/// A number written in digits only: no sign, no exponent, no white space.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn number(value: u64) -> toml::Value {
    // TOML's integers are signed; beyond them a string says the same.
    i64::try_from(value).map_or_else(|_| value.to_string().into(), toml::Value::Integer)
}

/// A number with one of `units` behind it, multiplied out.
fn unit_of(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (amount, unit) = text.split_at(split);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits(amount)?.checked_mul(*factor)
}

fn size_text(bytes: usize) -> String {
    match bytes {
        0 => "0".into(),
        _ if bytes.is_multiple_of(1 << 40) => format!("{}TiB", bytes >> 40),
        _ if bytes.is_multiple_of(1 << 30) => format!("{}GiB", bytes >> 30),
        _ if bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        _ => bytes.to_string(),
    }
}

fn span_text(span: Duration) -> String {
    match span.as_millis() {
        0 => "0s".into(),
        millis if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        millis if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        millis => format!("{millis}ms"),
    }
}

const BYTE_UNITS: &[(&str, u64)] =
    &[("", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
/// In milliseconds.
const TIME_UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];
