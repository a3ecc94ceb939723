//! The embedded server: host files, boot files and the share over HTTP; boot files over TFTP.

mod api;
mod append;
mod arch;
mod before_store;
mod boot;
mod bootconf;
mod by_digest;
mod claims;
mod compose;
mod connections;
mod dhcp;
mod ends;
mod events;
mod face;
mod file;
pub mod fleet;
pub mod given;
mod growing;
mod grubconf;
mod health;
pub mod host_files;
mod host_search;
mod hosts;
mod http;
mod image_files;
pub mod inventory;
pub mod jobs;
mod journal;
mod layer;
pub mod list;
mod listing;
mod locks;
pub mod machine;
mod machine_access;
mod metrics;
mod mirror;
mod pages;
mod path;
mod people;
mod range;
mod reached;
mod readers;
mod recompress;
mod refusal;
mod relay;
mod report;
pub mod runs;
pub mod set;
mod share;
mod site;
mod tftp;
pub mod tls;
pub mod unknown;
mod upload;
mod url;
mod verifier;
pub mod view;
mod web;
pub mod write;

pub use before_store::Store as ShareStore;
pub use boot::chain as boot_chain;
pub use url::{Served, assumed as assumed_url, read_server_file, valid_url};

use anyhow::{Context, bail};
use before_store::Store;
use face::Face;
use journal::Journal;
use machine_access::{MachineAccess, UnlockOptions};
use mirror::Mirror;
use pitstop_protocol::share_url::ShareUrl;
use pitstop_transport::share::Keys;
use site::{Folders, Site, Sites};
use std::fs::{File, TryLockError};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use web::Web;

/// How long requests that are under way may take when the server is told to end.
const GRACE: Duration = Duration::from_secs(10);
/// A server that is ending is looked for so often, so long after each other.
const LOOKS: u32 = 120;
const LOOK: Duration = Duration::from_millis(100);
/// Where boot ROMs look for TFTP.
const TFTP_PORT: u16 = 69;

const EXAMPLES: &str = "\
Examples:
  pitstop serve --root /srv/pitstop --boot out --dhcp proxy
  pitstop serve --root lab --listen 127.0.0.1:8080 --tftp off --url http://10.0.2.2:8080

Put jobs in with `pitstop host set`. SIGTERM or Ctrl-C end the server.";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The folder that is served: hosts/, share/ and boot/ are made in it if missing
    #[arg(long, env = "PITSTOP_ROOT", value_name = "DIR")]
    root: PathBuf,
    /// Where HTTP listens; port 0 takes any free one
    #[arg(long, value_name = "ADDR:PORT", default_value_t = everywhere())]
    listen: SocketAddr,
    /// Where TFTP listens, or `off` [default: the same address, port 69, if it can be had]
    #[arg(long, value_name = "ADDR:PORT|off")]
    tftp: Option<Tftp>,
    /// The URL under which machines reach this server [default: the name they use, else its address]
    #[arg(long, value_name = "URL", value_parser = valid_url)]
    url: Option<String>,
    /// The folder with vmlinuz and initramfs.img [default: boot/ under the root]
    #[arg(long, value_name = "DIR")]
    boot: Option<PathBuf>,
    /// More kernel parameters for machines with a job
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "console=ttyS0,115200 console=tty0",
        value_parser = one_line,
        allow_hyphen_values = true
    )]
    append: String,
    /// Records of runs that are kept of each machine: the newest
    #[arg(long, value_name = "N", default_value_t = runs::KEEP_LAST, value_parser = at_least_one)]
    keep_runs: usize,
    /// How long a machine at work may be silent before another one gets its slot
    #[arg(long, value_name = "TIME", default_value = "45s", value_parser = slot_timeout)]
    slot_timeout: Duration,
    /// Who may use the share and read host files: whoever reaches the server, or machines by the token of their run, and people
    #[arg(long, value_name = "open|token", default_value = "open")]
    machine_access: MachineAccess,
    /// The store that is the share, in place of share/ under the root; machines reach it through this server
    #[arg(long, value_name = "URL")]
    share: Option<ShareUrl>,
    /// The keys of a store, for --share and for jobs whose share is one: a file like ~/.aws/credentials that only its owner may
    /// read [default: those of the environment, else ~/.aws/credentials]
    #[arg(long, value_name = "FILE")]
    store_keys: Option<PathBuf>,
    #[command(flatten)]
    unlock: UnlockOptions,
    #[command(flatten)]
    mirror: mirror::Options,
    #[command(flatten)]
    recompress: recompress::Options,
    #[command(flatten)]
    tls: tls::TlsOptions,
    /// Machines that get one image from here at once; others get it from those. 0: each gets its own from here
    #[arg(long, value_name = "N", default_value_t = 1)]
    chains: usize,
    #[command(flatten)]
    dhcp: dhcp::Options,
    /// No line for each request
    #[arg(long)]
    quiet: bool,
}

fn everywhere() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], url::DEFAULT_PORT))
}

#[derive(Clone, Copy)]
enum Tftp {
    Off,
    At(SocketAddr),
}

impl std::str::FromStr for Tftp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            address => address
                .parse()
                .map(Self::At)
                .map_err(|_| "write an address and a port, as in 0.0.0.0:69, or off".into()),
        }
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("write a number from 1".into()),
        Ok(number) => Ok(number),
    }
}

fn one_line(text: &str) -> Result<String, String> {
    if text.chars().any(char::is_control) {
        return Err("kernel parameters are one line".into());
    }
    Ok(text.trim().to_owned())
}

/// Less than a second would be taken for silence by every busy network.
fn slot_timeout(text: &str) -> Result<Duration, String> {
    let time = pitstop_imaging::units::parse_duration(text)?;
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&time) {
        return Err("it is between 1s and 1h".into());
    }
    Ok(time)
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let folders = Folders::open(&args.root, args.boot.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // TFTP and uploads each hold a thread for as long as they take.
        .max_blocking_threads(2 * tftp::MOST_CLIENTS)
        .build()
        .context("starting the server's threads")?;
    let end = runtime.block_on(serve(args, folders));
    // A TFTP client that has gone silent would be waited for otherwise.
    runtime.shutdown_timeout(Duration::from_secs(1));
    end
}

async fn serve(args: &Args, folders: Folders) -> anyhow::Result<()> {
    // From here on a signal is an orderly end.
    let mut terminate = signal(SignalKind::terminate()).context("waiting for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("waiting for SIGINT")?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listening on {} for HTTP", args.listen))?;
    let address = listener
        .local_addr()
        .context("asking for the server's address")?;
    let (tftp, no_tftp) = bind_tftp(args.tftp, address.ip()).await?;
    let _only_one = only_server(&args.root).await?;
    let journal = Journal::new(args.quiet);
    let (face, https) =
        Face::new(&args.tls, &args.root, args.url.as_deref(), address, journal).await?;
    let store = args.share.as_ref().map(ToString::to_string);
    url::write_server_file(&args.root, &face.served, args.machine_access, store)?;
    let served = face.served.url.clone();
    // A store is asked for its marker.
    let sites = tokio::task::block_in_place(|| sites(args, &folders, face))?;
    let sites = Arc::new(sites);
    ends::start(&sites)?;
    let dhcp = dhcp::start(&args.dhcp, &args.root, &folders.boot_path, &sites, address).await?;
    let mut lines = announced(args, address, tftp.as_ref(), no_tftp)?;
    lines.extend(https.as_ref().into_iter().flat_map(|it| it.lines.clone()));
    if let Some(share) = &args.share {
        lines.push(format!("the share is {share}"));
    }
    lines.extend(sites.now()?.mirror.as_ref().map(|mirror| mirror.line()));
    lines.push(format!("machines reach it as {served}"));
    lines.extend(without_boot_files(&folders));
    if let Some(dhcp) = &dhcp {
        lines.extend(args.dhcp.lines(dhcp, &*sites.now()?, &folders.boot_path));
    }
    say(&lines)?;
    let dhcp = dhcp.map(|dhcp| tokio::spawn(dhcp.run()));
    let stop_dhcp = dhcp.as_ref().map(JoinHandle::abort_handle);
    tokio::spawn(fleet::watch(Arc::clone(&sites.fleet)));
    tokio::spawn(jobs::watch(Arc::clone(&sites)));
    tokio::spawn(inventory::watch(Arc::clone(&sites)));
    args.recompress.start(&sites);
    let mut web = Web::start(listener, https, &sites);
    let tftp = tftp.map(|socket| tokio::spawn(tftp::serve(socket, sites, address.port())));
    let failed_tftp = async {
        match tftp {
            Some(task) => task.await,
            None => std::future::pending().await,
        }
    };
    let failed_dhcp = async {
        match dhcp {
            Some(task) => task.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        end = failed_dhcp => return end.context("DHCP")?.context("DHCP"),
        error = web.failed() => return Err(error),
        end = failed_tftp => return end.context("the TFTP server")?.context("the TFTP server"),
    }
    if let Some(dhcp) = stop_dhcp {
        dhcp.abort();
    }
    tell("ending; another signal ends it at once");
    tokio::select! {
        // What is still under way then leaves nothing behind: see upload.rs.
        _ = tokio::time::timeout(GRACE, web.end()) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// A line on standard error that nobody has to take: a log on a full disk must not end the server.
fn tell(line: &str) {
    let _ = writeln!(std::io::stderr(), "pitstop: {line}");
}

/// Of two servers of one root each would turn the machines of the other to itself. One that is ending is waited for. What is
/// returned holds the root; `None` where the filesystem has no locks of folders.
async fn only_server(root: &Path) -> anyhow::Result<Option<File>> {
    let path = root.join("hosts");
    let folder = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    for look in 0..LOOKS {
        if look == 1 {
            let root = root.display();
            tell(&format!(
                "another pitstop serve has {root}: waiting for it to end"
            ));
        }
        match folder.try_lock() {
            Ok(()) => return Ok(Some(folder)),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOOK).await,
            Err(TryLockError::Error(_)) => return Ok(None),
        }
    }
    bail!(
        "another pitstop serve has {}: end it first, or give this one a root of its own",
        root.display()
    )
}

fn sites(args: &Args, folders: &Folders, face: Face) -> anyhow::Result<Sites> {
    let claims = claims::Claims::new(&args.root);
    claims.tidy(|path| folders.hosts.is_file(path.as_path()));
    let journal = face.journal;
    let events = Arc::new(events::Events::default());
    let store_keys = match &args.store_keys {
        Some(file) => Some(Keys::from_private_file(file)?),
        // They may be for something else.
        None => Keys::from_environment().unwrap_or_else(|error| {
            journal.note(&format!("no keys for a store: {error:#}"));
            None
        }),
    };
    let store_keys = store_keys.map(Arc::new);
    let store = match &args.share {
        Some(url) => Some(Arc::new(Store::of_url(
            url,
            store_keys.as_deref(),
            &journal,
        )?)),
        None => None,
    };
    let unlocking = args.unlock.open(face.tls.is_some(), args.machine_access)?;
    let site = Site {
        store,
        unlocking: unlocking.map(Arc::new),
        share: Arc::clone(&folders.share),
        hosts: Arc::clone(&folders.hosts),
        boot: Arc::clone(&folders.boot),
        fleet: face.fleet,
        jobs: Arc::new(jobs::Keeper::new(
            &args.root,
            args.slot_timeout,
            Arc::clone(&journal),
        )),
        journal: Arc::clone(&journal),
        claims: Arc::new(claims),
        strangers: Arc::new(unknown::Strangers::new(&args.root)),
        append: args.append.clone(),
        url_given: args.url.is_some(),
        url: face.served.url,
        boot_url: face.served.boot_url,
        tls: face.tls,
        connections: face.connections,
        metrics: Arc::default(),
        locks: Arc::default(),
        runs: Arc::new(runs::Recorder::new(
            &args.root,
            args.keep_runs,
            Arc::clone(&events),
        )),
        events,
        looks: Arc::default(),
        watch: Arc::default(),
        verifier: Arc::new(verifier::Verifier::new(&args.root)),
        job_files: Arc::default(),
        inventory: Arc::new(inventory::Inventory::below(&args.root)),
        glance: Arc::default(),
        layers: Arc::default(),
        people: Arc::new(pitstop_people::Gate::at(&args.root)),
        machine_access: args.machine_access,
        store_keys,
        digests: Arc::default(),
        given: Arc::new(given::Given::new(&args.root)),
        uploads: Arc::default(),
        mirror: Mirror::of(&args.mirror, &args.root, &journal)?,
        relays: Arc::new(
            relay::Relays::new(&args.root, args.chains).with_context(|| {
                format!("reading or making relay.key in {}", args.root.display())
            })?,
        ),
    };
    Ok(Sites::new(folders, site))
}

/// The TFTP socket, or, where it is off without having been told so, why.
async fn bind_tftp(
    wanted: Option<Tftp>,
    default: IpAddr,
) -> anyhow::Result<(Option<UdpSocket>, Option<String>)> {
    match wanted {
        Some(Tftp::Off) => Ok((None, None)),
        Some(Tftp::At(address)) => {
            let socket = UdpSocket::bind(address)
                .await
                .with_context(|| format!("listening on {address} for TFTP"))?;
            Ok((Some(socket), None))
        }
        None => {
            let address = SocketAddr::new(default, TFTP_PORT);
            match UdpSocket::bind(address).await {
                Ok(socket) => Ok((Some(socket), None)),
                Err(error) => Ok((None, Some(format!("{address}: {error}")))),
            }
        }
    }
}

/// Where everything is.
fn announced(
    args: &Args,
    address: SocketAddr,
    tftp: Option<&UdpSocket>,
    no_tftp: Option<String>,
) -> anyhow::Result<Vec<String>> {
    let mut lines = vec![format!(
        "serving {} on http://{address}",
        args.root.display()
    )];
    if let Some(socket) = tftp {
        let address = socket.local_addr().context("asking for TFTP's address")?;
        lines.push(format!("TFTP on {address}"));
    }
    if let Some(why) = no_tftp {
        lines.push(format!("TFTP is off: {why}"));
    }
    Ok(lines)
}

fn without_boot_files(folders: &Folders) -> Option<String> {
    let missing = folders.missing_boot_files();
    (!missing.is_empty()).then(|| {
        format!(
            "{} is missing {}: machines cannot boot the payload",
            folders.boot_path.display(),
            missing.join(" and ")
        )
    })
}

/// Says it on standard output, so that a script can wait for it.
fn say(lines: &[String]) -> anyhow::Result<()> {
    let text = format!("pitstop: {}\n", lines.join("\npitstop: "));
    let mut output = std::io::stdout().lock();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .context("writing to standard output")
}
