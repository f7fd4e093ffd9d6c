//! Tests of the configuration: pure, no process, no environment of this process.

use std::{net::SocketAddr, time::Duration};

use super::*;
use crate::{
    limits::{PING_INTERVAL, ROLE_TIMEOUT},
    secret::Secret,
};

mod platform;
mod workspace;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// Loads with the file `/etc/relay.toml` holding `file`; no other file exists.
fn load(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Outcome, ConfigError> {
    let arguments = ["longsplice"].iter().chain(arguments).map(|argument| argument.to_string());
    Config::load(arguments, &environment(variables), |path| match path.to_str() {
        Some("/etc/relay.toml") => Ok(file.to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    })
}

fn config(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> Config {
    match load(arguments, variables, file) {
        Ok(Outcome::Run(config)) => *config,
        other => panic!("expected a configuration, not {other:?}"),
    }
}

fn refusal(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    load(arguments, variables, file).expect_err("a refusal").to_string()
}

fn printed(arguments: &[&str], variables: &[(&str, &str)], file: &str) -> String {
    match load(arguments, variables, file) {
        Ok(Outcome::Print(text)) => text,
        other => panic!("expected a text, not {other:?}"),
    }
}

const FILE: [&str; 2] = ["--config", "/etc/relay.toml"];

#[test]
fn the_defaults_are_those_of_the_contracts() {
    let config = config(&[], &[], "");
    let addresses: Vec<_> = config.listen_addresses().iter().map(SocketAddr::to_string).collect();
    assert_eq!(addresses, ["0.0.0.0:8080", "[::]:8080"]);
    assert!(config.listen_is_default());
    let link = config.link();
    assert_eq!(link.rates, Rates { rate_bps: 1_048_576, hourly_bytes: 0, trickle_bps: 16_384 });
    assert_eq!(link.idle, Duration::from_secs(300));
    assert_eq!(link.origin, None);
    assert_eq!(config.link_ip_rate_per_min, 60);
    assert_eq!(config.link_slow_peer_sec, Duration::from_secs(30));
    assert!(!config.link_trust_proxy);
    assert_eq!(config.ping_interval, PING_INTERVAL);
    assert_eq!(config.role_timeout, ROLE_TIMEOUT);
    assert_eq!(config.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.drain_delay, Duration::ZERO);
    assert_eq!((config.driver, config.shards, config.pin), (driver::Choice::Auto, None, false));
    assert_eq!((config.recv_buffers, config.recv_buffer_size, config.splice_min), (64, 16_384, 256 << 10));
    assert_eq!((config.stats, config.admin_listen), (StatsAccess::Public, None));
}

#[test]
fn a_flag_beats_the_environment_beats_the_file_beats_the_default() {
    let variables = [("LONGSPLICE_MAX_CONNECTIONS", "2")];
    let file = "max-connections = 3";
    assert_eq!(config(&["--max-connections", "1"], &variables, file).max_connections, 1);
    let both = config(&FILE, &variables, file);
    assert_eq!(both.max_connections, 2);
    assert_eq!(config(&FILE, &[], file).max_connections, 3);
    assert_eq!(config(&[], &[], file).max_connections, 1_000_000);
    assert_eq!(config(&[], &[("LONGSPLICE_CONFIG", "/etc/relay.toml")], file).max_connections, 3);
}

#[test]
fn every_environment_name_reaches_its_option_and_follows_the_naming_rule() {
    for row in options::rows() {
        for name in render::env_names(&row) {
            let text = match name {
                // Milliseconds where the option takes any unit.
                _ if name.ends_with("_MS") => "1500",
                "RELAY_MAX_FRAME_BYTES"
                | "RELAY_MAX_PENDING_BYTES"
                | "RELAY_ADMISSION_MAX_RESPONSE_BYTES" => "131072",
                _ => sample(row.flag).0,
            };
            let variables = [(name, text)];
            let served = if row.flag == "dialects" { "--shards=auto" } else { "--dialects=link" };
            let shown = printed(&["--print-config", served], &variables, "");
            let line = shown.lines().find(|line| {
                line.starts_with(&format!("{} = ", row.flag))
                    || line.starts_with(&format!("# {} is set", row.flag))
            });
            assert!(
                line.is_some_and(|line| line.ends_with(&format!("# environment variable {name}"))),
                "{line:?}"
            );
            let own = format!("LONGSPLICE_{}", row.flag.to_uppercase().replace('-', "_"));
            let shared = ["PORT", "HOST", "LOG_LEVEL", "RUST_LOG"];
            let pair = [
                "RENDEZVOUS_URL",
                "SESSION_TTL_SECONDS",
                "MAX_SESSIONS",
                "ALLOWED_ORIGINS",
                "METRICS_ENABLED",
            ];
            let contract = ["LINK_", "PAIR_", "RELAY_"].iter().any(|prefix| name.starts_with(prefix))
                || shared.contains(&name)
                || pair.contains(&name)
                || ["SERVER_URL", "MAX_LOGS"].contains(&name);
            assert!(contract || name == own, "{name}");
        }
    }
}

#[test]
fn every_flag_and_key_reaches_its_option_and_the_print_out_reads_back() {
    for row in options::rows().into_iter().filter(|row| !row.is_secret) {
        let (text, shown) = sample(row.flag);
        // Not served, so that what would refuse to start with it does not.
        let served = if row.flag == "dialects" { "--shards=auto" } else { "--dialects=link" };
        let by_flag = printed(&[&format!("--{}={text}", row.flag), "--print-config", served], &[], "");
        let expected = format!("{} = {shown}  # command line", row.flag);
        assert!(by_flag.lines().any(|line| line == expected), "no {expected:?} in\n{by_flag}");
        let by_key = printed(&[FILE[0], FILE[1], "--print-config"], &[], &by_flag);
        assert!(by_key.contains(&format!("{} = {shown}  # file /etc/relay.toml", row.flag)), "{by_key}");
        assert_ne!(shown, default_shown(row.flag), "the sample of {} must differ from its default", row.flag);
    }
}

#[test]
fn a_secret_reaches_its_option_and_is_never_shown() {
    for row in options::rows().iter().filter(|row| row.is_secret) {
        let secret = "correct-horse-battery";
        let flag = format!("--{}={secret}", row.flag);
        let shown = printed(&[&flag, "--print-config", "--dialects=link"], &[], "");
        assert!(shown.contains(&format!("# {} is set and not shown  # command line", row.flag)), "{shown}");
        assert!(!shown.contains(secret), "{shown}");
        assert!(!format!("{:?}", config(&[&flag, "--dialects=link"], &[], "")).contains(secret));
    }
    let set = config(&[], &[("LONGSPLICE_ADMIN_TOKEN", " abc ")], "");
    assert_eq!(set.admin_token.as_ref().map(Secret::reveal), Some("abc"));
    assert_eq!(config(&[], &[("LONGSPLICE_ADMIN_TOKEN", "  ")], "").admin_token, None);
}

/// A value of each option other than its default: as written, and as printed.
fn sample(option: &str) -> (&'static str, &'static str) {
    match option {
        "listen" => ("127.0.0.1:1,[::1]:2", r#"["127.0.0.1:1", "[::1]:2"]"#),
        "host" => ("localhost", r#"["127.0.0.1"]"#),
        "port" => ("9000", "9000"),
        "dialects" => ("pair,pair", r#"["pair"]"#),
        "admin-listen" => ("127.0.0.1:9090", r#""127.0.0.1:9090""#),
        "stats" => ("loopback", r#""loopback""#),
        "driver" => ("epoll", r#""epoll""#),
        "shards" => ("4", "4"),
        "pin" => ("on", "true"),
        "relay-number" => ("65535", "65535"),
        "recv-buffers" => ("128", "128"),
        "recv-buffer-size" => ("32768", r#""32KiB""#),
        "outbox-budget" | "message-budget" => ("1GiB", r#""1GiB""#),
        "park-after" => ("0", r#""0s""#),
        "splice-min" => ("0", r#""0""#),
        "max-connections" | "max-connections-per-ip" | "max-handshakes-per-ip" => ("7", "7"),
        "handshake-timeout" | "role-timeout" | "drain-delay" => ("1500ms", r#""1500ms""#),
        "ping-interval" => ("2m", r#""120s""#),
        "tcp-keepalive-idle" => ("0", r#""0s""#),
        "tcp-keepalive-interval" => ("5", r#""5s""#),
        "tcp-keepalive-count" => ("9", "9"),
        "tcp-user-timeout" => ("40s", r#""40s""#),
        "send-buffer" | "receive-buffer" => ("131072", r#""128KiB""#),
        "log-format" => ("json", r#""json""#),
        "log-level" => ("warn,longsplice::shard=debug", r#""warn,longsplice::shard=debug""#),
        "link-relay-max-bps" => ("0", "0"),
        "link-relay-hourly-bytes" => ("17592186044416", "17592186044416"),
        "link-relay-trickle-bps" => ("1", "1"),
        "link-relay-idle-sec" => ("1", r#""1s""#),
        "link-slow-peer-sec" => ("60", r#""60s""#),
        "link-ip-rate-per-min" => ("0", "0"),
        "link-verify-rate-per-sec" | "link-max-addresses" | "link-max-addresses-per-ip" => ("7", "7"),
        "link-trust-proxy" => ("1", "true"),
        "link-allowed-register-keys" => ("abc #def", r##""abc #def""##),
        "link-allowed-register-keys-file" => ("/etc/relay.toml", r#""/etc/relay.toml""#),
        "link-origin" => (" Relay.Example ", r#""relay.example""#),
        "pair-rendezvous-url" => ("wss://relay.example/", r#""wss://relay.example""#),
        "pair-session-ttl-seconds" => ("90", r#""90s""#),
        "pair-max-sessions" | "pair-max-sessions-per-ip" => ("7", "7"),
        "pair-allowed-origins" => {
            ("https://a.example, https://b.example", r#"["https://a.example", "https://b.example"]"#)
        }
        "pair-metrics-enabled" => ("1", "true"),
        "pair-ip-rate-per-min" => ("0", "0"),
        "pair-max-message-bytes" => ("65536", r#""64KiB""#),
        "pair-ping-interval" => ("20s", r#""20s""#),
        "admin-http" => ("1", "true"),
        "admin-token" => ("secret", "not shown"),
        "workspace-mode" => ("staging", r#""staging""#),
        "workspace-relay-id" => ("relay-a", r#""relay-a""#),
        "workspace-public-url" => ("wss://relay.example/ws", r#""wss://relay.example/ws""#),
        "workspace-tls" => ("0", r#""0""#),
        "workspace-tls-termination" => ("platform", r#""platform""#),
        "workspace-tls-host" => ("relay.example", r#""relay.example""#),
        "workspace-tls-cert-dir" | "workspace-tls-cert-path" | "workspace-tls-key-path" => {
            ("/nowhere", r#""/nowhere""#)
        }
        "workspace-backplane" => ("single", r#""single""#),
        "workspace-health-verbose"
        | "workspace-state-client-ids"
        | "workspace-presence-sync"
        | "workspace-bus"
        | "workspace-client-redirect"
        | "workspace-close-on-expiry" => ("on", "true"),
        "workspace-trusted-proxies" => ("10.0.0.0/8,::1", r#""10.0.0.0/8,::1""#),
        "workspace-max-frame-bytes" | "workspace-max-pending-bytes" => ("128KiB", r#""128KiB""#),
        "workspace-ping-interval"
        | "workspace-pong-timeout"
        | "workspace-idle-timeout"
        | "workspace-empty-ttl"
        | "workspace-cleanup-interval" => ("1500ms", r#""1500ms""#),
        "platform-url" => ("https://platform.example:8443/x", r#""https://platform.example:8443/x""#),
        "platform-validate-url" => ("http://10.0.0.1/v", r#""http://10.0.0.1/v""#),
        "platform-jwks-url" => ("http://10.0.0.1/keys", r#""http://10.0.0.1/keys""#),
        "workspace-local-check" => ("also", r#""also""#),
        "platform-internal-key" | "platform-client-key-passphrase" => ("secret", "not shown"),
        "platform-admission-timeout" => ("1500ms", r#""1500ms""#),
        "platform-admission-max-response-bytes" => ("128KiB", r#""128KiB""#),
        "platform-tls-verify" => ("1", r#""1""#),
        "platform-ca-cert-path" | "platform-client-cert-path" | "platform-client-key-path" => {
            ("/nowhere.pem", r#""/nowhere.pem""#)
        }
        "platform-mtls" => ("on", "true"),
        "platform-auth-mode" => ("private_network_shared_secret", r#""private_network_shared_secret""#),
        _ if option.starts_with("workspace-") => ("7", "7"),
        other => panic!("give {other} a sample"),
    }
}

fn default_shown(option: &str) -> String {
    let printed = printed(&["--print-config"], &[], "");
    let line = printed
        .lines()
        .find(|line| line.starts_with(&format!("{option} = ")))
        .expect("every option is printed");
    let (_, value) = line.split_once(" = ").expect("a key and a value");
    value.split_once("  # ").expect("a value and a source").0.to_owned()
}

#[test]
fn a_value_out_of_range_is_refused_with_option_source_value_and_remedy() {
    for (arguments, variables, file, parts) in [
        (&["--shards", "1025"][..], &[][..], "", &["--shards", "1025", "command line", "auto", "1024"][..]),
        (
            &[],
            &[("LINK_RELAY_TRICKLE_BPS", "0")],
            "",
            &["--link-relay-trickle-bps", "LINK_RELAY_TRICKLE_BPS", "from 1"],
        ),
        (&[], &[("LINK_RELAY_IDLE_SEC", "0")], "", &["LINK_RELAY_IDLE_SEC", "\"0\"", "from 1s"]),
        (&[], &[("LINK_RELAY_MAX_BPS", "-1")], "", &["LINK_RELAY_MAX_BPS", "\"-1\"", "whole number"]),
        (&[], &[("LINK_PORT", "0")], "", &["--port", "LINK_PORT", "from 1 to 65535"]),
        (&[], &[("LINK_TRUST_PROXY", "true")], "", &["LINK_TRUST_PROXY", "\"true\"", "1 (on)"]),
        (&[], &[("PORT", "http")], "", &["PORT", "\"http\"", "0 to 65535"]),
        (&FILE, &[], "recv-buffers = 65", &["--recv-buffers", "/etc/relay.toml", "\"65\"", "power of two"]),
        (&FILE, &[], "driver = 1.5", &["--driver", "\"1.5\"", "io-uring"]),
        (&["--dialects", "link,zebra"], &[], "", &["--dialects", "link,zebra", "this version"]),
        (&["--recv-buffer-size", "16KB"], &[], "", &["--recv-buffer-size", "16KB", "64KiB"]),
        (&["--log-level", "verbose"], &[], "", &["--log-level", "verbose", "debug"]),
        (&["--host", "relay.example"], &[], "", &["--host", "relay.example", "IP addresses"]),
        (
            &["--tcp-user-timeout", "30s"],
            &[],
            "",
            &["--tcp-user-timeout", "--link-slow-peer-sec", "raise it"],
        ),
        (&["--splice-min", "1"], &[], "", &["--splice-min", "64KiB", "or 0 (never)"]),
        (
            &["--pair-max-message-bytes", "8MiB", "--message-budget", "4MiB"],
            &[],
            "",
            &["--pair-max-message-bytes", "8MiB", "--message-budget", "raise"],
        ),
        (
            &[],
            &[("RENDEZVOUS_URL", "https://a.example")],
            "",
            &["RENDEZVOUS_URL", "https://a.example", "ws or wss"],
        ),
        (&[], &[("RENDEZVOUS_URL", "wss://a.example/pair")], "", &["RENDEZVOUS_URL", "/pair", "no path"]),
        (&[], &[("RENDEZVOUS_URL", "wss://a.example?x")], "", &["RENDEZVOUS_URL", "?x", "no path"]),
        (&[], &[("RENDEZVOUS_URL", "wss://me@a.example")], "", &["RENDEZVOUS_URL", "me@"]),
        (&[], &[("RENDEZVOUS_URL", "wss://a.example:99999")], "", &["RENDEZVOUS_URL", ":99999", "wss://"]),
        (&[], &[("RENDEZVOUS_URL", "wss://a example")], "", &["RENDEZVOUS_URL", "wss://"]),
        (&[], &[("RENDEZVOUS_URL", "wss://a.example#x")], "", &["RENDEZVOUS_URL", "#x"]),
        (&[], &[("RENDEZVOUS_URL", "a.example")], "", &["RENDEZVOUS_URL", "a.example", "ws or wss"]),
        (&[], &[("ALLOWED_ORIGINS", "*,https://a.example")], "", &["ALLOWED_ORIGINS", "`*`"]),
        (&[], &[("METRICS_ENABLED", "true")], "", &["METRICS_ENABLED", "1 (on)"]),
        (&[], &[("SESSION_TTL_SECONDS", "0")], "", &["SESSION_TTL_SECONDS", "from 1s"]),
        (&[], &[("MAX_SESSIONS", "0")], "", &["MAX_SESSIONS", "from 1"]),
    ] {
        let text = refusal(arguments, variables, file);
        for part in parts {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
    }
}

#[test]
fn the_dialects_own_port_beats_port_and_an_empty_variable_is_unset() {
    assert_eq!(config(&[], &[("LINK_PORT", "81"), ("PORT", "82")], "").port, 81);
    assert_eq!(config(&[], &[("LINK_PORT", ""), ("PORT", "82")], "").port, 82);
    assert_eq!(config(&["--port", "83"], &[("LINK_PORT", "81")], "").port, 83);
}

#[test]
fn two_variables_of_equal_rank_must_agree() {
    let mut rows = options::rows();
    let port = rows.iter_mut().find(|row| row.flag == "port").expect("the table has `port`");
    port.env = const { &[&[settings::Env::named("LINK_PORT"), settings::Env::named("OTHER_PORT")]] };
    let gather = |variables: &[(&str, &str)]| {
        Settings::gather(&rows, HashMap::new(), &environment(variables), None)
            .map(|settings| settings.text("port").to_owned())
    };
    assert_eq!(gather(&[("LINK_PORT", "81"), ("OTHER_PORT", "81")]), Ok("81".into()));
    assert_eq!(gather(&[("OTHER_PORT", "82")]), Ok("82".into()));
    let refusal =
        gather(&[("LINK_PORT", "81"), ("OTHER_PORT", "82")]).expect_err("they disagree").to_string();
    assert!(refusal.contains("LINK_PORT=\"81\"") && refusal.contains("OTHER_PORT=\"82\""), "{refusal}");
}

#[test]
fn trust_proxy_is_on_for_1_only() {
    assert!(config(&[], &[("LINK_TRUST_PROXY", "1")], "").link_trust_proxy);
    for off in ["0", "false", "", "no"] {
        assert!(!config(&[], &[("LINK_TRUST_PROXY", off)], "").link_trust_proxy, "{off:?}");
    }
}

#[test]
fn listen_host_and_port_settle_by_the_strength_of_their_sources() {
    let addresses = |arguments: &[&str], variables: &[(&str, &str)], file: &str| {
        let config = config(arguments, variables, file);
        config.listen_addresses().iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(" ")
    };
    let listen = ["--listen", "127.0.0.1:1", "--listen", "[::1]:2"];
    assert_eq!(addresses(&listen, &[("PORT", "9")], ""), "127.0.0.1:1 [::1]:2");
    assert_eq!(addresses(&[], &[("LONGSPLICE_LISTEN", "127.0.0.1:1"), ("PORT", "9")], ""), "127.0.0.1:1");
    assert_eq!(addresses(&FILE, &[("PORT", "9")], "listen = ['127.0.0.1:1']"), "0.0.0.0:9 [::]:9");
    assert_eq!(addresses(&["--host", "::1,127.0.0.1"], &[("LINK_PORT", "9")], ""), "[::1]:9 127.0.0.1:9");
    assert!(!config(&["--host", "0.0.0.0"], &[], "").listen_is_default());
    assert!(config(&["--port", "1"], &[], "").listen_is_default());
    let refusal = refusal(&["--listen", "127.0.0.1:1", "--port", "2"], &[], "");
    assert!(refusal.contains("--port") && refusal.contains("--listen"), "{refusal}");
}

#[test]
fn a_file_with_an_unknown_key_is_refused_and_the_likely_one_named() {
    let misspelt = refusal(&FILE, &[], "max_connections = 3");
    assert!(
        misspelt.contains("max_connections") && misspelt.contains("did you mean \"max-connections\""),
        "{misspelt}"
    );
    let by_variable = refusal(&FILE, &[], "LOG_LEVEL = 'debug'");
    assert!(by_variable.contains("did you mean \"log-level\""), "{by_variable}");
    let table = refusal(&FILE, &[], "[zebra]\nport = 1");
    assert!(table.contains("\"zebra\"") && table.contains("--help"), "{table}");
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_refused_by_name() {
    let missing = refusal(&["--config", "/nowhere.toml"], &[], "");
    assert!(missing.contains("/nowhere.toml") && missing.contains("cannot be read"), "{missing}");
    let by_variable = refusal(&[], &[("LONGSPLICE_CONFIG", "/nowhere.toml")], "");
    assert!(by_variable.contains("LONGSPLICE_CONFIG"), "{by_variable}");
    let broken = refusal(&FILE, &[], "port = ");
    assert!(broken.contains("/etc/relay.toml") && broken.contains("line 1"), "{broken}");
}

#[test]
fn the_allow_list_is_the_union_of_list_and_file_and_an_unreadable_file_refuses() {
    let variables =
        [("LINK_ALLOWED_REGISTER_KEYS", "aaa,bbb"), ("LINK_ALLOWED_REGISTER_KEYS_FILE", "/etc/relay.toml")];
    let config = config(&[], &variables, "ccc\n# not this\n");
    let text = config.allow_list(|_| Ok("ccc\n".into())).expect("the file is there");
    assert_eq!(text, "aaa,bbb\nccc\n");
    let missing = refusal(&[], &[("LINK_ALLOWED_REGISTER_KEYS_FILE", "/nowhere")], "");
    assert!(missing.contains("/nowhere") && missing.contains("LINK_ALLOWED_REGISTER_KEYS_FILE"), "{missing}");
}

#[test]
fn a_switch_needs_no_value_and_may_have_one() {
    assert!(config(&["--pin"], &[], "").pin);
    assert!(!config(&["--pin=false"], &[("LONGSPLICE_PIN", "1")], "").pin);
}

#[test]
fn help_and_version_are_printed_and_a_wrong_flag_is_a_usage_message() {
    let help = printed(&["--help"], &[], "");
    for row in options::rows() {
        assert!(help.contains(&format!("--{}", row.flag)), "{}", row.flag);
    }
    assert!(help.contains("LONGSPLICE_CONFIG") && help.contains("Listening:"), "{help}");
    assert_eq!(printed(&["--version"], &[], "").trim(), format!("longsplice {}", env!("CARGO_PKG_VERSION")));
    let usage = refusal(&["--prot", "1"], &[], "");
    assert!(usage.contains("--prot") && usage.contains("--port"), "{usage}");
}

#[test]
fn bad_values_are_refused_when_only_printing_too() {
    assert!(load(&["--print-config", "--port", "70000"], &[], "").is_err());
}
