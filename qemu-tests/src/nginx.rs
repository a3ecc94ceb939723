//! nginx as a site has it: host files and the share in folders, with its own `WebDAV` methods.

use crate::servers::{Service, answers, free_port};
use crate::tools;
use anyhow::Result;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// nginx on a port of the loopback.
pub struct Nginx {
    _service: Service,
    port: u16,
    folder: tempfile::TempDir,
}

impl Nginx {
    /// Serves `hosts/` and `share/`, with the marker, as `docs/share.md` tells admins to.
    pub fn start() -> Result<Nginx> {
        let folder = tempfile::tempdir()?;
        // Its workers are another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        for name in ["hosts", "share", "tmp"] {
            let path = folder.path().join(name);
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o777))?;
        }
        fs::write(folder.path().join("share/pitstop-share"), "")?;
        let port = free_port()?;
        let configuration = folder.path().join("nginx.conf");
        fs::write(&configuration, text(folder.path(), port))?;
        let mut command = tools::command("nginx")?;
        command
            .arg("-c")
            .arg(&configuration)
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "stderr"]);
        let mut service = Service::start(command, folder.path().join("nginx.log"))?;
        service.wait_until("nginx", || answers(port))?;
        Ok(Nginx {
            _service: service,
            port,
            folder,
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder that is served as `/share/`.
    pub fn share(&self) -> PathBuf {
        self.folder.path().join("share")
    }

    /// The folder that is served as `/hosts/`.
    pub fn hosts(&self) -> PathBuf {
        self.folder.path().join("hosts")
    }
}

fn text(root: &Path, port: u16) -> String {
    let root = root.display();
    format!(
        "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n  access_log off;\n  \
         client_body_temp_path {root}/tmp;\n  server {{\n    listen 127.0.0.1:{port};\n    root {root};\n    \
         location / {{\n      dav_methods PUT DELETE MOVE MKCOL;\n      create_full_put_path on;\n      \
         client_max_body_size 0;\n    }}\n  }}\n}}\n"
    )
}
