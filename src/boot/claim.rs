//! Where the relay listens: addresses of its own, or sockets that the service manager handed over.
//!
//! Addresses are claimed before a shard binds one, because a second relay could join them in silence. Handed over
//! sockets are taken instead of all addresses of the options: their queues outlive the process, so that a restart
//! refuses nobody, and all shards accept from them. Which shard accepts is of no weight: a connection moves to its
//! home with its first message.

use std::{fmt, io, net::SocketAddr};

use crate::{
    config::Config,
    driver::{
        self, Private,
        listen::{Claim, Inherited, KeepAlive, ListenOptions, Listener},
    },
};

/// Where to listen, for every shard.
#[derive(Clone, Debug)]
pub(super) enum Sites {
    /// Addresses with real ports, each shard with a socket of its own.
    Own(Vec<SocketAddr>),
    /// Sockets that all shards share.
    Inherited(Vec<Inherited>),
}

/// Takes the sockets with these numbers, or, where there are none, claims the addresses that the options name. The
/// claims are to live until every shard is bound.
pub(super) fn sites(config: &Config, inherited: &[i32]) -> Result<(Sites, Vec<Claim>), String> {
    if inherited.is_empty() {
        let claims = claim(config)?;
        return Ok((Sites::Own(claims.iter().map(Claim::address).collect()), claims));
    }
    let options = listen_options(config);
    let take = |number: &i32| {
        Inherited::check(*number, &options).map_err(|error| {
            format!(
                "LISTEN_FDS: {error}. The socket unit needs ListenStream= with a port or an IP address and port, and \
                 Accept=no"
            )
        })
    };
    let taken = inherited.iter().map(take).collect::<Result<_, _>>()?;
    Ok((Sites::Inherited(taken), Vec::new()))
}

/// What the options say about sockets.
pub(super) fn listen_options(config: &Config) -> ListenOptions {
    let keep_alive = KeepAlive {
        idle: config.tcp_keepalive_idle,
        interval: config.tcp_keepalive_interval,
        count: config.tcp_keepalive_count,
    };
    ListenOptions {
        receive_buffer_bytes: (config.receive_buffer > 0).then_some(config.receive_buffer),
        send_buffer_bytes: (config.send_buffer > 0).then_some(config.send_buffer),
        keep_alive: (!config.tcp_keepalive_idle.is_zero()).then_some(keep_alive),
        user_timeout: (!config.tcp_user_timeout.is_zero()).then_some(config.tcp_user_timeout),
    }
}

impl Sites {
    /// The addresses that clients reach.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Sites::Own(addresses) => addresses.clone(),
            Sites::Inherited(sockets) => sockets.iter().map(Inherited::address).collect(),
        }
    }

    /// What a shard's descriptor table has to keep.
    pub(super) fn inherited(&self) -> &[Inherited] {
        match self {
            Sites::Own(_) => &[],
            Sites::Inherited(sockets) => sockets,
        }
    }

    /// Whether the sockets were handed over.
    pub(super) fn are_inherited(&self) -> bool {
        matches!(self, Sites::Inherited(_))
    }

    /// One shard's listeners, in its own thread.
    pub(super) fn listeners(&self, private: Private, options: &ListenOptions) -> io::Result<Vec<Listener>> {
        match self {
            Sites::Own(addresses) => {
                addresses.iter().map(|address| driver::listen::bind(*address, options)).collect()
            }
            Sites::Inherited(sockets) => sockets.iter().map(|socket| socket.enter(private)).collect(),
        }
    }
}

impl fmt::Display for Sites {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses().iter().map(SocketAddr::to_string).collect();
        f.write_str(&addresses.join(","))
    }
}

/// The addresses to listen on, with real ports. One of the default addresses may be missing on this machine.
fn claim(config: &Config) -> Result<Vec<Claim>, String> {
    let mut claimed: Vec<Claim> = Vec::new();
    for mut address in config.listen_addresses() {
        if address.port() == 0
            && let (true, Some(first)) = (config.listen_is_default(), claimed.first())
        {
            address.set_port(first.address().port());
        }
        match driver::listen::claim(address) {
            Ok(claim) => claimed.push(claim),
            Err(error) if config.listen_is_default() && is_missing_family(&error) => {
                tracing::info!(%address, %error, "this machine has no such address family: not listening there");
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                return Err(format!(
                    "{error}. Stop the process that listens there, or choose another --listen or --port"
                ));
            }
            Err(error) => return Err(format!("{error}. Choose another --listen, --host or --port")),
        }
    }
    if claimed.is_empty() {
        return Err("there is no address to listen on; set --listen".to_owned());
    }
    Ok(claimed)
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
}
