//! What a message pays for finding its connection: the table in chunks, beside one slab and one flat vector.

use std::hint::black_box;

use criterion::Criterion;
use longsplice::tables::{Chunks, Key, Table};
use slab::Slab;

/// About what the shard keeps for a connection.
type Entry = [u64; 23];

/// Look-ups of one entry after another in no order, with the check of its generation, in tables of which all fits the
/// second-level cache and of which nearly nothing does.
pub fn looking_up(criterion: &mut Criterion) {
    for entries in [1_000_u32, 300_000] {
        let mut group = criterion.benchmark_group(format!("look up one of {entries}"));
        let mut table = Table::new();
        let mut slab = Slab::new();
        let mut flat = Vec::new();
        let mut chunks = Chunks::new();
        for number in 0..entries {
            let entry = [u64::from(number); 23];
            let key = table.insert(entry);
            assert_eq!((key.index, key.generation), (number, number), "dense, and numbered in order");
            assert_eq!(slab.insert((number, entry)), number as usize);
            flat.push((number, entry));
            chunks.push((number, entry));
        }
        let mut number = 0;
        let mut next = || {
            // Coprime to both counts, so that every entry has its turn, none near the one before.
            number = (number + 618_031) % entries;
            number
        };
        group.bench_function("chunks with generations (Table)", |bencher| {
            bencher.iter(|| {
                let number = next();
                let found = table.get_mut(black_box(Key { index: number, generation: number }));
                touch(found.expect("it is there"))
            });
        });
        group.bench_function("slab, and the generation", |bencher| {
            bencher.iter(|| {
                let number = next();
                let (generation, entry) = slab.get_mut(black_box(number) as usize).expect("it is there");
                assert_eq!(*generation, number);
                touch(entry)
            });
        });
        group.bench_function("flat vector, and the generation", |bencher| {
            bencher.iter(|| {
                let number = next();
                let (generation, entry) = &mut flat[black_box(number) as usize];
                assert_eq!(*generation, number);
                touch(entry)
            });
        });
        group.bench_function("chunks, and the generation (Chunks)", |bencher| {
            bencher.iter(|| {
                let number = next();
                let (generation, entry) = &mut chunks[black_box(number) as usize];
                assert_eq!(*generation, number);
                touch(entry)
            });
        });
    }
}

/// One word read and written, as of a counter.
fn touch(entry: &mut Entry) -> u64 {
    entry[7] += 1;
    entry[7]
}
