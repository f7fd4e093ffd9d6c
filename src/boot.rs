//! From a configuration to a running relay, and back down.
//!
//! Order matters and is all here, but for the first of it: `main` blocks signals before it starts a thread. Addresses
//! are claimed before a shard binds, every shard is bound before any accepts, and on the way down upgrades are refused
//! before listeners close.

mod announce;
mod claim;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use crate::{
    admin::{About, Access, Fleet, Ready, Snapshot},
    admission::{AllowList, SharedPolicy, TrustedProxies, WorkspaceGateSettings},
    config::{Config, RelayMode},
    control::{Control, Correspondence, Desk, Duties, Line},
    dialect::{
        Dialects, Kind, Place,
        kick::Target,
        link::{Link, LinkConfig},
        pair::{Pair, PairConfig},
        workspace::{Answer, Workspace, WorkspaceConfig},
    },
    driver::{
        self, Chosen, Clock, Driver, EpollDriver, Kind as DriverKind, PoolOptions, Private, Setup,
        UringDriver,
        listen::{ListenOptions, Listener},
        post::{EndNumbers, Offices, Wakers},
        process::{self, Signal, Signals},
    },
    id::ConnId,
    limits::GATHER_TIMEOUT,
    logs::{self, Ring},
    shard::{
        Platform, Shard, Shared,
        mail::Mail,
        shared::{Operator, Settings},
    },
    systemd::Manager,
    time::Now,
};
use claim::Sites;

/// Runs the relay until one of `signals` says stop. Its entries are in `ring`. Errors: why it did not start, with the
/// remedy.
pub fn run(config: &Config, signals: &Signals, manager: &Manager, ring: Arc<Ring>) -> Result<(), String> {
    abort_on_panic();
    process::avoid_huge_pages();
    let descriptors = process::raise_descriptor_limit().unwrap_or(0);
    let chosen = choose_driver(config)?;
    let (sites, claims) = claim::sites(config, manager.listeners())?;
    let shards = shards(config);
    let clock = Clock::start();
    let addresses = sites.addresses();
    let pair = config.pair(&addresses);
    let policy = SharedPolicy::new(config.link_ip_rate_per_min, allow_list(config)?)
        .with_sessions(config.pair_ip_rate_per_min, config.pair_sessions())
        .with_addresses(config.link_addresses());
    let room = descriptors_of_a_shard(descriptors, shards);
    let platform = platform(config)?;
    let mut shared = Shared::new(settings(config, &pair, room), policy, shards, clock.at());
    shared.operator = Operator {
        access: Access::new(config.admin_http, config.admin_token.as_ref()),
        site: announce::site(config, &addresses)?,
        logs: ring,
    };
    shared.platform = platform.as_ref().map(|(line, _)| Box::new(line.clone()) as Box<dyn Platform>);
    let shared = Arc::new(shared);
    let offices =
        Offices::new(usize::from(shards)).map_err(|error| format!("socket pairs between shards: {error}"))?;
    let relay = Relay { shared: Arc::clone(&shared), wakers: offices.wakers(), clock };

    warn_of_unreachable_url(config, &addresses);
    let seeds = Seeds { hash_key: random_bytes()?, generator: random_bytes()? };
    let threads = start_shards(config, &chosen, &sites, &relay, &offices, &seeds)?;
    drop(claims);
    let (control, admin) = start_control(config, platform, &chosen, &relay)?;
    if config.serves(Kind::Workspace) {
        announce::workspace(config, &addresses, &relay.shared.operator.site);
    }
    tracing::info!(
        listen = sites.to_string(),
        handed_over = sites.are_inherited(),
        driver = %chosen.kind,
        shards,
        pin = config.pin,
        admin = admin.map_or_else(|| "off".to_owned(), |address| address.to_string()),
        dialects = config.dialects.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(","),
        max_connections = config.max_connections,
        max_connections_per_ip = config.max_connections_per_ip,
        descriptors,
        version = env!("CARGO_PKG_VERSION"),
        "longsplice is listening"
    );

    manager.ready(&relay.status());
    serve(config, signals, &relay, manager);
    manager.stopping("draining");
    drain(config, signals, &relay, manager);
    let stopped = stop(signals, &relay, threads);
    if let Some(control) = control {
        control.stop();
    }
    tracing::info!(clean = stopped, "longsplice has stopped");
    Ok(())
}

/// What every thread outside the shards needs to reach them.
#[derive(Clone)]
pub struct Relay {
    /// What the shards share.
    pub shared: Arc<Shared>,
    wakers: Wakers,
    clock: Clock,
}

impl Relay {
    /// Puts mail into a shard's box.
    pub fn post(&self, shard: u16, mail: Mail) {
        if self.shared.mailboxes.put(shard, mail) {
            self.wakers.wake(shard);
        }
    }

    /// Puts the same mail into every shard's box.
    fn post_all(&self, mail: impl Fn() -> Mail) {
        for shard in 0..self.shared.mailboxes.shards() {
            self.post(shard, mail());
        }
    }
}

impl Relay {
    /// One line for the service manager.
    fn status(&self) -> String {
        match self.shared.stalled(self.clock.at()).as_slice() {
            [] => format!("{} connections", self.shared.open_connections()),
            stalled => format!("shards that have not turned for too long: {stalled:?}"),
        }
    }

    /// Tells the service manager how things are; that all is well, only while every shard turns.
    fn report(&self, manager: &Manager) {
        manager.alive(self.shared.stalled(self.clock.at()).is_empty(), &self.status());
    }

    /// Asks every shard for its counters and waits for them, at most `GATHER_TIMEOUT`.
    fn ask_for_snapshots(&self) -> Vec<Option<Snapshot>> {
        let shards = self.shared.mailboxes.shards();
        let (answer, answers) = mpsc::channel::<Snapshot>();
        for shard in 0..shards {
            let answer = answer.clone();
            // The asker may have given up by the time the shard answers.
            let report = move |snapshot| drop(answer.send(snapshot));
            self.post(shard, Mail::Snapshot(Box::new(report)));
        }
        let mut snapshots = vec![None; usize::from(shards)];
        let deadline = self.clock.at() + GATHER_TIMEOUT;
        for _ in 0..shards {
            let Ok(snapshot) = answers.recv_timeout(deadline.since(self.clock.at())) else { break };
            let shard = usize::from(snapshot.shard);
            snapshots[shard] = Some(snapshot);
        }
        snapshots
    }
}

impl Relay {
    /// Has every shard end what of this lives there; how many connections that closed.
    fn kick_everywhere(&self, target: &Target) -> usize {
        let shards = self.shared.mailboxes.shards();
        let (answer, answers) = mpsc::channel::<usize>();
        for shard in 0..shards {
            let answer = answer.clone();
            let report = move |closed| _ = answer.send(closed);
            self.post(shard, Mail::Kick(target.clone(), Box::new(report)));
        }
        let deadline = self.clock.at() + GATHER_TIMEOUT;
        let answered = |_| answers.recv_timeout(deadline.since(self.clock.at())).ok();
        (0..shards).map_while(answered).sum()
    }
}

impl Fleet for Relay {
    fn is_operator(&self, presented: Option<&str>) -> bool {
        self.shared.operator.access.is_operator(presented)
    }

    async fn kick(&self, target: Target) -> usize {
        // On a thread of its own, for the same reason as below.
        let relay = self.clone();
        tokio::task::spawn_blocking(move || relay.kick_everywhere(&target)).await.unwrap_or(0)
    }

    async fn snapshots(&self) -> Vec<Option<Snapshot>> {
        // A shard must not wake the runtime: that writes to a descriptor, whose number means something else
        // in the shard's private table. A channel of the standard library wakes by a futex.
        let relay = self.clone();
        let gathered = tokio::task::spawn_blocking(move || relay.ask_for_snapshots()).await;
        gathered.unwrap_or_else(|_| vec![None; usize::from(self.shared.mailboxes.shards())])
    }

    fn readiness(&self) -> Ready {
        Ready {
            draining: self.shared.is_draining(),
            stalled: self.shared.stalled(self.clock.at()),
            ip_windows_evicted: self.shared.policy.evicted(),
            log_lines_lost: logs::lines_lost(),
        }
    }
}

impl Correspondence for Relay {
    fn deliver(&self, shard: u16, conn: ConnId, answer: Answer) {
        self.post(shard, Mail::Answer { conn, answer });
    }

    fn now(&self) -> Now {
        self.clock.now()
    }
}

/// The line and the desk for questions to the platform, where a dialect has any.
fn platform(config: &Config) -> Result<Option<(Line, Desk)>, String> {
    if !config.serves(Kind::Workspace) {
        return Ok(None);
    }
    let desk = Desk::new(config.platform(config.workspace().frame_bytes_max))
        .map_err(|error| format!("TLS towards the platform: {error}"))?;
    Ok(Some((Line::default(), desk)))
}

/// Starts the control thread where there is something for it to do.
fn start_control(
    config: &Config,
    platform: Option<(Line, Desk)>,
    chosen: &Chosen,
    relay: &Relay,
) -> Result<(Option<Control>, Option<SocketAddr>), String> {
    let mut duties = Duties { admin: None, platform };
    let mut bound = None;
    if let Some(address) = config.admin_listen {
        let failed = |error: io::Error| format!("admin-listen {address}: {error}");
        let listener = TcpListener::bind(address).map_err(failed)?;
        bound = Some(listener.local_addr().map_err(failed)?);
        let about = About { version: env!("CARGO_PKG_VERSION"), driver: chosen.kind.name() };
        duties.admin = Some((listener, about));
    }
    if duties.admin.is_none() && duties.platform.is_none() {
        return Ok((None, None));
    }
    let control = Control::start(duties, relay.clone());
    Ok((Some(control.map_err(|error| format!("control thread: {error}"))?), bound))
}

struct Seeds {
    hash_key: [u8; 16],
    generator: [u8; 32],
}

/// Answers SIGHUP until a signal says stop.
fn serve(config: &Config, signals: &Signals, relay: &Relay, manager: &Manager) {
    loop {
        match signals.wait(manager.interval()) {
            Some(Signal::Stop) => return,
            Some(Signal::Reload) => {
                manager.reloading(process::monotonic_us());
                reload(config, relay);
                manager.ready(&relay.status());
            }
            None => {}
        }
        relay.report(manager);
    }
}

fn reload(config: &Config, relay: &Relay) {
    match allow_list(config) {
        Ok(list) => {
            tracing::info!(keys = list.len(), "allow-list read again");
            relay.shared.policy.replace_allow_list(list);
            relay.post_all(|| Mail::PolicyChanged);
        }
        Err(error) => tracing::warn!(error, "allow-list not read again; the one in force stays"),
    }
}

/// The time between "send no more" and "close everything".
fn drain(config: &Config, signals: &Signals, relay: &Relay, manager: &Manager) {
    relay.shared.set_draining();
    relay.post_all(|| Mail::Drain);
    tracing::info!(delay_ms = config.drain_delay.as_millis() as u64, "draining: upgrades are refused");
    let end = relay.clock.at() + config.drain_delay;
    while relay.clock.at() < end {
        if signals.wait(end.since(relay.clock.at()).min(manager.interval())) == Some(Signal::Stop) {
            exit_at_once();
        }
        relay.report(manager);
    }
}

/// Closes everything; whether all shards stopped by themselves in time.
fn stop(signals: &Signals, relay: &Relay, threads: Vec<JoinHandle<()>>) -> bool {
    relay.post_all(|| Mail::Stop);
    let end = relay.clock.at() + STOP_LIMIT;
    while !threads.iter().all(JoinHandle::is_finished) {
        if relay.clock.at() >= end {
            tracing::warn!("connections were left when the time to close them was over");
            return false;
        }
        if signals.wait(Duration::from_millis(10)) == Some(Signal::Stop) {
            exit_at_once();
        }
    }
    true
}

fn exit_at_once() -> ! {
    tracing::warn!("second signal: exiting at once, without closing what is open");
    logs::flush();
    std::process::exit(0)
}

fn start_shards(
    config: &Config,
    chosen: &Chosen,
    sites: &Sites,
    relay: &Relay,
    offices: &Offices,
    seeds: &Seeds,
) -> Result<Vec<JoinHandle<()>>, String> {
    let (bound, is_bound) = mpsc::channel();
    let pair = config.pair(&sites.addresses());
    let mut starts = Vec::new();
    let mut threads = Vec::new();
    let cores = process::cores();
    for number in 0..relay.shared.mailboxes.shards() {
        let (start, may_start) = mpsc::channel::<()>();
        starts.push(start);
        let plan = Plan {
            number,
            kind: chosen.kind,
            core: config.pin.then(|| cores.get(usize::from(number) % cores.len().max(1)).copied()).flatten(),
            sites: sites.clone(),
            listen: claim::listen_options(config),
            pool: PoolOptions {
                buffers: u32::from(config.recv_buffers),
                buffer_bytes: config.recv_buffer_size as u32,
            },
            park_after: config.park_after,
            clock: relay.clock,
            link: config.serves(Kind::Link).then(|| config.link()),
            pair: config.serves(Kind::Pair).then(|| pair.clone()),
            workspace: config.serves(Kind::Workspace).then(|| config.workspace()),
            place: Place {
                shard: number,
                shards: relay.shared.mailboxes.shards(),
                relay: config.relay_number,
                hash_key: seeds.hash_key,
            },
            random: generator(seeds, number),
        };
        let (shared, ends, bound) = (Arc::clone(&relay.shared), offices.ends_for(number), bound.clone());
        let body = move || {
            if let Err(error) = run_shard(plan, shared, ends, &bound, &may_start) {
                // Before the start `start_shards` reports it; later nothing can go on without a shard.
                if bound.send(Err(error.clone())).is_err() {
                    tracing::error!(shard = number, error, "a shard failed");
                    logs::flush();
                    std::process::exit(1);
                }
            }
        };
        let thread = thread::Builder::new().name(format!("shard-{number}")).spawn(body);
        threads.push(thread.map_err(|error| format!("shard {number}: no thread: {error}"))?);
    }
    for _ in &threads {
        is_bound.recv().map_err(|_| "a shard ended before it was bound".to_owned())??;
    }
    // All are bound: none may accept before, or a connection could land where no registry answers yet.
    drop(is_bound);
    for start in starts {
        start.send(()).map_err(|_| "a shard ended before it started".to_owned())?;
    }
    Ok(threads)
}

/// What one shard's thread needs to build the shard in place.
struct Plan {
    number: u16,
    kind: DriverKind,
    core: Option<usize>,
    sites: Sites,
    listen: ListenOptions,
    pool: PoolOptions,
    park_after: Duration,
    clock: Clock,
    link: Option<LinkConfig>,
    pair: Option<PairConfig>,
    workspace: Option<WorkspaceConfig>,
    place: Place,
    random: ChaCha12Rng,
}

fn run_shard(
    plan: Plan,
    shared: Arc<Shared>,
    ends: EndNumbers,
    bound: &mpsc::Sender<Result<(), String>>,
    may_start: &mpsc::Receiver<()>,
) -> Result<(), String> {
    if let Some(core) = plan.core {
        process::pin(core)
            .map_err(|error| format!("pinning shard {} to core {core}: {error}", plan.number))?;
    }
    let (private, ends) =
        ends.enter(plan.sites.inherited()).map_err(|error| format!("descriptor table: {error}"))?;
    if let Private::Refused(errno) = private {
        tracing::warn!(
            shard = plan.number,
            errno,
            "no private descriptor table (unshare(CLONE_FILES) refused, perhaps by a seccomp profile): all \
             shards share one, and LimitNOFILE counts for all of them together"
        );
    }
    let listeners: Vec<Listener> =
        plan.sites.listeners(private, &plan.listen).map_err(|error| error.to_string())?;
    let setup = Setup {
        clock: plan.clock,
        listeners,
        post: ends,
        pool: plan.pool,
        pipes_max: PIPES_MAX,
        connections_max: u32::MAX,
        park_after: plan.park_after,
    };
    let dialects = Dialects {
        link: plan.link.map(|config| Link::new(config, plan.place.clone())),
        pair: plan.pair.map(|config| Pair::new(config, plan.place.clone())),
        workspace: plan.workspace.map(|config| Workspace::new(config, plan.place)),
    };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::OutOfMemory => format!(
            "shard {}: {error}. If it is the limit on locked memory, raise it (ulimit -l, LimitMEMLOCK=); `longsplice \
             doctor` says how far",
            plan.number
        ),
        _ => format!("shard {}: {error}", plan.number),
    };
    match plan.kind {
        DriverKind::IoUring => {
            let driver = UringDriver::new(setup).map_err(failed)?;
            turn(Shard::new(driver, plan.number, shared, dialects, plan.random), bound, may_start)
                .map_err(failed)
        }
        DriverKind::Epoll => {
            let driver = EpollDriver::new(setup).map_err(failed)?;
            turn(Shard::new(driver, plan.number, shared, dialects, plan.random), bound, may_start)
                .map_err(failed)
        }
    }
}

fn turn<D: Driver>(
    mut shard: Shard<D>,
    bound: &mpsc::Sender<Result<(), String>>,
    may_start: &mpsc::Receiver<()>,
) -> io::Result<()> {
    // Whoever listens for it is gone only when another shard has already failed.
    let _ = bound.send(Ok(()));
    if may_start.recv().is_err() {
        return Ok(());
    }
    shard.start();
    shard.run()
}

/// A QR code is read on another device: a made-up URL of this machine's address is hardly ever one that it can reach.
fn warn_of_unreachable_url(config: &Config, addresses: &[SocketAddr]) {
    let is_public = addresses.iter().any(|address| !address.ip().is_loopback());
    if config.serves(Kind::Pair) && config.pair_rendezvous_url.is_none() && is_public {
        tracing::warn!(
            url = config.pair(addresses).rendezvous_url,
            "RENDEZVOUS_URL is not set: QR codes will carry a URL that other devices cannot reach; set it to the one \
             that they can, such as wss://relay.example"
        );
    }
}

fn choose_driver(config: &Config) -> Result<Chosen, String> {
    let chosen = driver::choose(config.driver).map_err(|error| error.to_string())?;
    if let Some(why) = &chosen.why {
        tracing::warn!(driver = %chosen.kind, why, "the preferred driver is not available");
    }
    Ok(chosen)
}

fn allow_list(config: &Config) -> Result<AllowList, String> {
    let text = config.allow_list(|path| std::fs::read_to_string(path)).map_err(|error| {
        let path = config.link_allowed_register_keys_file.clone().unwrap_or_default();
        format!("link-allowed-register-keys-file {}: {error}", path.display())
    })?;
    Ok(AllowList::parse([text.as_str()]))
}

/// How many descriptors each shard may have: all that the limit allows where it gets a table of its own.
fn descriptors_of_a_shard(limit: u64, shards: u16) -> u64 {
    // Asked of a thread that ends at once: a table that was made private stays so.
    let tried = thread::spawn(process::can_have_own_table);
    if tried.join().unwrap_or(false) { limit } else { limit / u64::from(shards.max(1)) }
}

fn settings(config: &Config, pair: &PairConfig, descriptors: u64) -> Settings {
    let reserve = (descriptors / 4).min(DESCRIPTORS_RESERVED);
    Settings {
        handshake_timeout: config.handshake_timeout,
        manners: Kind::ALL.map(|kind| match kind {
            Kind::Link => LinkConfig::manners(config.ping_interval, config.role_timeout),
            Kind::Pair => pair.manners(config.pair_ping_interval, config.role_timeout),
            Kind::Workspace => config.workspace().manners(config.role_timeout),
        }),
        slow_peer: config.link_slow_peer_sec,
        splice_bytes_min: config.splice_min,
        outbox_bytes_max: config.outbox_budget,
        message_bytes_max: config.message_budget,
        connections_max: config.max_connections as usize,
        shard_connections_max: usize::try_from(descriptors - reserve).unwrap_or(usize::MAX),
        connections_per_ip_max: u32::try_from(config.max_connections_per_ip).unwrap_or(u32::MAX),
        handshakes_per_ip_max: config.max_handshakes_per_ip,
        trust_proxy: config.link_trust_proxy,
        stats: config.stats,
        pair_metrics: config.pair_metrics_enabled,
        workspace: config.serves(Kind::Workspace).then(|| workspace_gate(config)),
    }
}

/// Who may knock at the workspace dialect.
fn workspace_gate(config: &Config) -> WorkspaceGateSettings {
    WorkspaceGateSettings {
        upgrades_per_minute: config.workspace_upgrade_rate,
        upgrade_keys_max: config.workspace_upgrade_keys as usize,
        connections_max: config.workspace_max_total_connections as usize,
        connections_per_ip_max: config.workspace_max_connections_per_ip as usize,
        trusted_proxies: TrustedProxies::parse(&config.workspace_trusted_proxies),
        query_tokens: config.relay_mode() == RelayMode::Dev,
        admission_timeout: config.platform_admission_timeout,
    }
}

/// How many shards there will be.
pub fn shards(config: &Config) -> u16 {
    config.shards.unwrap_or_else(|| {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        u16::try_from(cores).unwrap_or(u16::MAX).min(crate::limits::SHARDS_MAX as u16)
    })
}

fn random_bytes<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random bytes from the kernel: {error}"))?;
    Ok(bytes)
}

/// A generator a shard: streams of one seed that never meet.
fn generator(seeds: &Seeds, shard: u16) -> ChaCha12Rng {
    let mut random = ChaCha12Rng::from_seed(seeds.generator);
    random.set_stream(u64::from(shard));
    random
}

/// A panic in any thread ends the process: a relay with a dead shard would answer for keys it no longer
/// serves. Also where nobody takes the report of it.
fn abort_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let give_up = || {
            thread::park_timeout(REPORT_LIMIT);
            std::process::abort()
        };
        let _ = thread::Builder::new().spawn(give_up);
        report(panic);
        std::process::abort();
    }));
}

/// From "close everything" to the end of the process at the latest; the promise to operators is 5 s.
const STOP_LIMIT: Duration = Duration::from_millis(4500);

/// How long the report of a panic may take to be written.
const REPORT_LIMIT: Duration = Duration::from_secs(1);

/// Descriptors of a shard that accepting leaves free: for its own (a few), for pipes, and for connections that
/// move there, which would otherwise be lost on arrival.
const DESCRIPTORS_RESERVED: u64 = 2 * PIPES_MAX as u64 + 128;

/// Pipes of a shard for splicing, each two descriptors and up to 1 MiB of kernel memory while it is full.
const PIPES_MAX: u32 = 64;
