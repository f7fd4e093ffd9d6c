//! The inputs that fuzzing has kept (`fuzz/corpus`), through the fuzzers' own targets. What once failed stays here
//! under the name of its symptom.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use longsplice::sim::targets;

#[test]
fn no_kept_input_fails_its_target() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut failed = Vec::new();
    for (name, target) in targets::ALL {
        let folder =
            fs::read_dir(corpora.join(name)).unwrap_or_else(|error| panic!("no corpus of {name}: {error}"));
        let mut inputs: Vec<_> = folder.map(|entry| entry.expect("a readable folder").path()).collect();
        inputs.sort();
        assert!(!inputs.is_empty(), "the corpus of {name} is empty");
        for input in inputs {
            let data = fs::read(&input).expect("a readable file");
            if catch_unwind(AssertUnwindSafe(|| target(&data))).is_err() {
                failed.push(input);
            }
        }
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
}

#[test]
fn every_target_has_a_fuzzer_and_every_fuzzer_a_target() {
    let fuzzers = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let entries = fs::read_dir(fuzzers).expect("the fuzzers' folder");
    let mut found: Vec<_> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| path.file_stem().expect("a file").to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut targets: Vec<_> = targets::ALL.iter().map(|(name, _)| *name).collect();
    targets.sort_unstable();
    assert_eq!(found, targets);
}
