//! The command line: what the binary prints, what it refuses to start with, and which setting wins.

mod support;

use std::{
    io::Write,
    net::TcpListener,
    process::{Command, Output},
};

use support::{Cell, cell, relay::binary};
use tempfile::NamedTempFile;

/// Runs the binary to its end.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the binary runs")
}

/// Runs the binary, which must refuse to start with an exit code of 2 and a message that contains all of
/// `parts`.
fn refuses(arguments: &[&str], environment: &[(&str, &str)], parts: &[&str]) {
    // A port that nothing may get as far as binding: should the check be missing, the test does not hang.
    let output = run(&[arguments, &["--print-config"]].concat(), environment);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?} {environment:?} said: {message}");
    assert!(output.stdout.is_empty(), "what refuses prints nothing else");
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}

/// The effective configuration; each line with its source.
fn effective(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = run(&[arguments, &["--print-config"]].concat(), environment);
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} {environment:?} said: {message}");
    String::from_utf8(output.stdout).expect("TOML is UTF-8")
}

/// The line of one option in the effective configuration.
fn line_of<'a>(printed: &'a str, option: &str) -> &'a str {
    let start = format!("{option} = ");
    printed
        .lines()
        .find(|line| line.starts_with(&start))
        .unwrap_or_else(|| panic!("no {option} in {printed}"))
}

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("a file is writable");
    file
}

#[test]
fn version_and_help_are_printed() {
    let version = run(&["--version"], &[]);
    assert!(version.status.success());
    let expected = format!("longsplice {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&version.stdout), expected);

    let help = run(&["--help"], &[]);
    assert!(help.status.success());
    let help = String::from_utf8_lossy(&help.stdout);
    let names = [
        "--listen",
        "--port",
        "--driver",
        "--shards",
        "--max-connections",
        "--admin-listen",
        "--print-config",
        "LINK_RELAY_MAX_BPS",
        "LINK_TRUST_PROXY",
        "LINK_ALLOWED_REGISTER_KEYS_FILE",
        "PORT",
        "LOG_LEVEL",
    ];
    for name in names {
        assert!(help.contains(name), "{name} is not in the help");
    }
}

#[test]
fn a_bad_value_is_refused_naming_option_source_and_value() {
    refuses(&["--nonsense"], &[], &["--nonsense"]);
    refuses(&["--driver", "kqueue"], &[], &["--driver", "kqueue", "io-uring", "epoll"]);
    refuses(&["--shards=-1"], &[], &["--shards", "-1"]);
    refuses(&["--shards", "100000"], &[], &["--shards", "100000"]);
    refuses(&["--listen", "nowhere"], &[], &["--listen", "nowhere"]);
    refuses(&["--relay-number", "65536"], &[], &["--relay-number", "65536"]);
    refuses(&["--handshake-timeout", "soon"], &[], &["--handshake-timeout", "soon"]);
    refuses(&["--recv-buffers", "63"], &[], &["--recv-buffers", "63"]);
    refuses(&["--log-format", "xml"], &[], &["--log-format", "xml"]);
    refuses(&["--stats", "private"], &[], &["--stats", "private"]);
    refuses(&["--dialects", "zebra"], &[], &["--dialects", "zebra"]);
    refuses(&["--dialects", "link,nonsense"], &[], &["--dialects", "nonsense"]);
    for (name, value) in [
        ("LINK_PORT", "0"),
        ("LINK_PORT", "65536"),
        ("LINK_PORT", "eighty"),
        ("PORT", "-5"),
        ("LINK_RELAY_MAX_BPS", "-1"),
        ("LINK_RELAY_MAX_BPS", "1.5"),
        ("LINK_RELAY_MAX_BPS", "fast"),
        ("LINK_RELAY_HOURLY_BYTES", "lots"),
        ("LINK_RELAY_TRICKLE_BPS", "0"),
        ("LINK_RELAY_IDLE_SEC", "0"),
        ("LINK_IP_RATE_PER_MIN", "-1"),
        ("LINK_SLOW_PEER_SEC", "0"),
        ("LONGSPLICE_DRIVER", "best"),
    ] {
        refuses(&[], &[(name, value)], &[name, value]);
    }
}

#[test]
fn an_unreadable_key_file_is_refused_by_name() {
    let path = "/nonexistent/keys.txt";
    let output = run(&["--listen", "127.0.0.1:0"], &[("LINK_ALLOWED_REGISTER_KEYS_FILE", path)]);
    assert_eq!(output.status.code(), Some(2));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(path) && message.contains("LINK_ALLOWED_REGISTER_KEYS_FILE"), "{message}");
}

#[test]
fn a_bad_configuration_file_is_refused() {
    let refuses_file = |text: &str, parts: &[&str]| {
        let file = file(text);
        let path = file.path().to_str().expect("a temporary path is UTF-8");
        refuses(&["--config", path], &[], &[&[path], parts].concat());
    };
    refuses_file("shards = 2\nnonsense = 1\n", &["nonsense"]);
    refuses_file("link_relay_max_bps = 5\n", &["link_relay_max_bps", "link-relay-max-bps"]);
    refuses_file("shards = \"many\"\n", &["shards", "many"]);
    refuses_file("shards = 1.5\n", &["shards", "1.5"]);
    refuses_file("shards = \n", &[]);
    refuses(&["--config", "/nonexistent/longsplice.toml"], &[], &["/nonexistent/longsplice.toml"]);
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let file = file("link-relay-max-bps = 3\nlink-relay-idle-sec = 33\nshards = 3\n");
    let path = file.path().to_str().expect("a temporary path is UTF-8");
    let environment = [("LINK_RELAY_MAX_BPS", "2"), ("LINK_RELAY_IDLE_SEC", "22")];
    let printed = effective(&["--config", path, "--link-relay-max-bps", "1"], &environment);
    let expected = [
        ("link-relay-max-bps", "1", "command line"),
        ("link-relay-idle-sec", "22", "LINK_RELAY_IDLE_SEC"),
        ("shards", "3", path),
        ("link-relay-trickle-bps", "16384", "default"),
    ];
    for (option, value, source) in expected {
        let line = line_of(&printed, option);
        assert!(line.contains(value) && line.contains(source), "{line:?} is not {value} from {source}");
    }
}

#[test]
fn what_print_config_prints_reads_back_as_the_same() {
    let environment =
        [("LINK_RELAY_IDLE_SEC", "7"), ("LINK_TRUST_PROXY", "1"), ("LINK_ORIGIN", "relay.example")];
    let printed = effective(&["--shards", "3", "--listen", "127.0.0.1:1,[::1]:2"], &environment);
    let file = file(&printed);
    let again = effective(&["--config", file.path().to_str().expect("a temporary path is UTF-8")], &[]);
    let values = |printed: &str| -> Vec<String> {
        let lines = printed.lines().filter(|line| line.contains(" = "));
        lines.map(|line| line.split("  #").next().expect("split gives one").to_owned()).collect()
    };
    assert_eq!(values(&printed), values(&again));
    assert!(values(&printed).len() > 30, "every option is printed");
}

#[test]
fn the_references_names_and_defaults_hold() {
    let printed = effective(&[], &[]);
    for (option, value) in [
        ("port", "8080"),
        ("link-relay-max-bps", "1048576"),
        ("link-relay-hourly-bytes", "0"),
        ("link-relay-trickle-bps", "16384"),
        ("link-relay-idle-sec", "300s"),
        ("link-ip-rate-per-min", "60"),
        ("link-trust-proxy", "false"),
    ] {
        let line = line_of(&printed, option);
        let shown = line.split(" = ").nth(1).expect("a value").trim_start_matches('"');
        assert!(shown.starts_with(value), "{line:?} is not {value}");
    }
    let port = |environment: &[(&str, &str)]| line_of(&effective(&[], environment), "port").to_owned();
    assert!(port(&[("PORT", "1234")]).starts_with("port = 1234"));
    assert!(
        port(&[("PORT", "1234"), ("LINK_PORT", "4321")]).starts_with("port = 4321"),
        "a dialect's own wins"
    );
    let trusts = |value: &str| effective(&[], &[("LINK_TRUST_PROXY", value)]);
    assert!(trusts("1").contains("link-trust-proxy = true"));
    assert!(trusts("0").contains("link-trust-proxy = false"));
}

#[test]
fn an_address_in_use_refuses_to_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("a bound socket").to_string();
    let output = run(&["--listen", &address], &[]);
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains(&address), "{message}");
}

#[test]
fn a_second_relay_on_the_same_address_refuses_to_start() {
    cell::every_cell(|cell: Cell| {
        // SO_REUSEPORT would let it bind and take half of the connections.
        let relay = cell.start();
        let address = relay.address.to_string();
        let output = run(&["--listen", &address, "--driver", cell.driver], &[]);
        assert!(!output.status.success());
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(message.contains(&address), "{message}");
        for _ in 0..8 {
            assert_eq!(relay.get("/health").status, 200);
        }
    });
}

#[test]
fn host_and_port_say_where_to_listen() {
    cell::every_cell(|cell: Cell| {
        let relay = cell.setup().without_listen().env("HOST", "127.0.0.1").env("PORT", "0").start();
        assert_eq!(relay.get("/health").status, 200);
    });
}
