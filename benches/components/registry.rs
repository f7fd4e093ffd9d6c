//! The link dialect's registry with a million addresses, each of a host of its own.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
};

use criterion::Criterion;
use longsplice::{
    admission::{AllowList, PlaceBounds, SharedPolicy},
    dialect::{
        Place,
        link::{Claim, Registry, Verdict},
    },
    id::{ConnId, Remote},
};
use sha2::{Digest, Sha256};

const ADDRESSES: u32 = 1_000_000;
const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What a resolve, and a register with the host's end, cost in a full table.
pub fn addresses(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("registry of 1M");
    group.sample_size(10);
    let place = Place { shard: 0, shards: 1, relay: 0, hash_key: [7; 16] };
    let mut registry = Registry::new(place.table_hasher());
    let bounds = PlaceBounds { all: Some(ADDRESSES as usize), per_ip: None };
    let policy = SharedPolicy::new(0, AllowList::default()).with_addresses(bounds);
    let keys: Vec<[u8; 32]> = (0..ADDRESSES).map(address).collect();
    for (number, address) in keys.iter().enumerate() {
        let granted = registry.register(&policy, host(number as u32), IP, claim(*address));
        assert_eq!(granted, (Verdict::Granted, None));
    }
    assert_eq!(registry.len(), ADDRESSES as usize);

    // A stride that is coprime to the count visits every address, none near the one before.
    let mut number = 0;
    let mut next = || {
        number = (number + 618_033) % ADDRESSES;
        number
    };
    group.bench_function("look up", |bencher| {
        bencher.iter(|| {
            let number = next();
            assert_eq!(registry.holder(black_box(&keys[number as usize])), Some(host(number)));
        });
    });
    let unknown = address(ADDRESSES);
    assert_eq!(registry.holder(&unknown), None);
    group.bench_function("look up in vain", |bencher| bencher.iter(|| registry.holder(black_box(&unknown))));
    group.bench_function("forget and insert", |bencher| {
        bencher.iter(|| {
            let number = next();
            registry.forget(&policy, black_box(host(number)));
            registry.register(&policy, host(number), IP, claim(keys[number as usize]))
        });
    });
    assert_eq!(registry.len(), ADDRESSES as usize);
}

fn address(number: u32) -> [u8; 32] {
    Sha256::digest(number.to_be_bytes()).into()
}

fn host(index: u32) -> Remote {
    Remote { shard: 0, conn: ConnId { index, generation: 1 } }
}

fn claim(address: [u8; 32]) -> Claim {
    Claim { address, public_key: [1; 32], timestamp: 1 }
}
