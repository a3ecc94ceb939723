//! An NFS server in user space, in a network of its own.

use crate::servers::{Namespace, Service};
use anyhow::{Context, Result};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// nfs-ganesha with one export, for NFS 3 and 4.
pub struct Ganesha {
    _server: Service,
    _rpcbind: Service,
    folder: tempfile::TempDir,
}

impl Ganesha {
    pub const PORT: u16 = 12049;
    pub const MOUNT_PORT: u16 = 12050;
    /// What machines mount.
    pub const EXPORT: &str = "/nfs";

    /// Exports a new share, with its marker, to the machines of this network.
    pub fn start(network: &Namespace) -> Result<Ganesha> {
        Ganesha::with_access(network, "RW")
    }

    /// The same, but nobody can write.
    pub fn read_only(network: &Namespace) -> Result<Ganesha> {
        Ganesha::with_access(network, "RO")
    }

    fn with_access(network: &Namespace, access: &str) -> Result<Ganesha> {
        for needed in ["/var/run/ganesha", "/var/lib/nfs/ganesha"] {
            fs::create_dir_all(needed).with_context(|| format!("making {needed} (needs root)"))?;
        }
        let folder = tempfile::tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let share = folder.path().join("share");
        fs::create_dir(&share)?;
        fs::set_permissions(&share, fs::Permissions::from_mode(0o777))?;
        fs::write(share.join("pitstop-share"), "")?;

        let mut rpcbind = Namespace::command_in(&network.path(), "rpcbind")?;
        rpcbind.args(["-f", "-w"]);
        let mut rpcbind = Service::start(rpcbind, folder.path().join("rpcbind.log"))?;
        rpcbind.wait_until("rpcbind", || Path::new("/run/rpcbind.sock").exists())?;

        let configuration = folder.path().join("ganesha.conf");
        fs::write(&configuration, text(&share, access))?;
        let log = folder.path().join("ganesha.log");
        let mut server = Namespace::command_in(&network.path(), "ganesha.nfsd")?;
        server
            .args(["-F", "-L"])
            .arg(&log)
            .arg("-p")
            .arg(folder.path().join("pid"))
            .arg("-f")
            .arg(&configuration);
        let mut server = Service::start(server, folder.path().join("ganesha.out"))?;
        server.wait_until("ganesha.nfsd", || {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("NFS SERVER INITIALIZED"))
        })?;
        Ok(Ganesha {
            _server: server,
            _rpcbind: rpcbind,
            folder,
        })
    }

    /// The folder that is exported.
    pub fn share(&self) -> PathBuf {
        self.folder.path().join("share")
    }
}

/// `mount_path_pseudo`: NFS 3 mounts by the same name as NFS 4, not by the folder's.
fn text(share: &Path, access: &str) -> String {
    format!(
        "NFS_CORE_PARAM {{ NFS_Port={}; MNT_Port={}; Bind_addr={}; Enable_NLM=false; Enable_RQUOTA=false; Protocols=3,4; mount_path_pseudo=true; }}\n\
         NFSV4 {{ Graceless=true; RecoveryBackend=fs; }}\n\
         EXPORT {{ Export_Id=1; Path={}; Pseudo={}; Access_Type={access}; Squash=No_Root_Squash; SecType=sys; Protocols=3,4; \
         FSAL {{ Name=VFS; }} }}\n",
        Ganesha::PORT,
        Ganesha::MOUNT_PORT,
        Namespace::ADDRESS,
        share.display(),
        Ganesha::EXPORT
    )
}
