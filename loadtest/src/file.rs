//! Scenario files: TOML with a table for each scenario, in the order in which they run.
//!
//! ```toml
//! [[scenario]]
//! kind = "pingpong"
//! name = "small messages"     # optional
//! links = 1000                # any option of the subcommand, without its dashes
//! ```

use std::{fs, path::Path};

use serde::Deserialize;
use toml::{Table, Value};

use crate::{
    scenario::{Kind, Scenario},
    settings::Settings,
};

/// Gives each scenario a name of its own, because reports tell them apart by it: one that came before is numbered.
pub fn tell_apart(scenarios: &mut [Scenario]) {
    for place in 1..scenarios.len() {
        let (before, rest) = scenarios.split_at_mut(place);
        let is_free = |name: &String| before.iter().all(|earlier| earlier.name != *name);
        let name = rest[0].name.clone();
        let numbered = (2..).map(|number| format!("{name} ({number})"));
        rest[0].name = [name.clone()].into_iter().chain(numbered).find(is_free).expect("numbers do not end");
    }
}

/// Reads the scenarios of a file. `given` are settings of the command line, which win over the file's.
pub fn read(path: &Path, given: &Settings) -> Result<Vec<Scenario>, String> {
    let naming = |error: String| format!("{}: {}", path.display(), error.trim_end());
    let text = fs::read_to_string(path).map_err(|error| naming(error.to_string()))?;
    parse(&text, given).map_err(naming)
}

fn parse(text: &str, given: &Settings) -> Result<Vec<Scenario>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    if file.scenario.is_empty() {
        return Err("there is no [[scenario]] in it".to_owned());
    }
    let scenarios = file.scenario.into_iter().enumerate();
    scenarios
        .map(|(index, table)| {
            scenario(table, given).map_err(|error| format!("scenario {}: {}", index + 1, error.trim_end()))
        })
        .collect()
}

fn scenario(mut table: Table, given: &Settings) -> Result<Scenario, String> {
    let Some(kind) = table.remove("kind") else {
        return Err("it wants a kind, such as kind = \"pingpong\"".to_owned());
    };
    let kind: Kind = kind.try_into().map_err(|error| error.to_string())?;
    let name = match table.remove("name") {
        None => None,
        Some(Value::String(name)) => Some(name),
        Some(other) => return Err(format!("name = {other}: a name is text")),
    };
    let settings: Settings = Value::Table(table).try_into().map_err(|error| error.to_string())?;
    Scenario::new(kind, name.as_deref(), &settings.overridden_by(given))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    scenario: Vec<Table>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::Sizes;

    #[test]
    fn the_command_line_wins_over_the_file_and_the_file_over_the_defaults() {
        let given = Settings { links: Some(3), ..Settings::default() };
        let text = "[[scenario]]\nkind = \"stream\"\nname = \"big\"\nlinks = 50\nseconds = 2\nsize = \"1MiB\"\n\
                    [[scenario]]\nkind = \"rate\"\nrate = 2.5\nsize = 64\nsource-address = [\"127.0.0.9\"]\n";
        let scenarios = parse(text, &given).expect("it is in order");
        let [stream, rate] = &scenarios[..] else { panic!("there are two: {scenarios:?}") };
        assert_eq!((stream.name.as_str(), stream.links, stream.length.as_secs()), ("big", 3, 2));
        assert_eq!(
            (&stream.parts.all()[0].sizes, stream.send_buffer),
            (&Sizes::Fixed(1 << 20), Some(128 << 10))
        );
        assert_eq!((rate.name.as_str(), rate.parts.all()[0].rate, rate.sources.len()), ("rate", 2.5, 1));
    }

    #[test]
    fn scenarios_of_one_name_are_told_apart() {
        let one =
            |name: &str| Scenario::new(Kind::Hold, Some(name), &Settings::default()).expect("it is in order");
        let mut scenarios = ["a", "b", "a (2)", "a", "a", "b"].map(one);
        tell_apart(&mut scenarios);
        let names = scenarios.each_ref().map(|scenario| scenario.name.as_str());
        assert_eq!(names, ["a", "b", "a (2)", "a (3)", "a (4)", "b (2)"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("", "no [[scenario]]"),
            ("[[scenario]]\nlinks = 1", "kind"),
            ("[[scenario]]\nkind = \"pongping\"", "pongping"),
            ("[[scenario]]\nkind = \"hold\"\nlink = 1", "link"),
            ("[[scenario]]\nkind = \"hold\"\nlinks = 0", "--links 0"),
            ("[[scenario]]\nkind = \"hold\"\nrate = 1", "--rate"),
            ("[[scenario]]\nkind = \"stream\"\nsize = 4", "stamp"),
            ("links = 1", "links"),
        ] {
            let error = parse(text, &Settings::default()).expect_err(text);
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_files_that_come_with_the_program_are_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<_> = fs::read_dir(folder).expect("the folder is there").flatten().collect();
        assert!(files.len() >= 3);
        for file in files {
            read(&file.path(), &Settings::default()).expect("each is in order");
        }
    }
}
