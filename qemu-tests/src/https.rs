//! nginx over TLS, and an initramfs that trusts its authority.

use crate::servers::{Service, answers, free_port};
use crate::vm::HOST;
use crate::{paths, tools};
use anyhow::{Context, Result};
use cpio::newc::{Builder, trailer};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Its certificate is valid from 2024 until 2050.
pub struct Https {
    _service: Service,
    port: u16,
    folder: tempfile::TempDir,
}

impl Https {
    /// Serves files of a folder of its own, to those who trust its authority.
    pub fn start() -> Result<Https> {
        let folder = tempfile::tempdir()?;
        // Its workers are another user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let files = folder.path().join("files");
        fs::create_dir(&files)?;
        fs::set_permissions(&files, fs::Permissions::from_mode(0o777))?;
        make_certificates(folder.path())?;
        let port = free_port()?;
        let configuration = folder.path().join("nginx.conf");
        let root = folder.path().display();
        let text = format!(
            "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n  \
             access_log off;\n  server {{\n    listen 127.0.0.1:{port} ssl;\n    root {root}/files;\n    dav_methods DELETE;\n    \
             ssl_certificate {root}/server.pem;\n    ssl_certificate_key {root}/server.key;\n  }}\n}}\n"
        );
        fs::write(&configuration, text)?;
        let mut command = tools::command("nginx")?;
        command.arg("-c").arg(&configuration);
        command.arg("-p").arg(folder.path()).args(["-e", "stderr"]);
        let mut service = Service::start(command, folder.path().join("nginx.log"))?;
        service.wait_until("nginx", || answers(port))?;
        Ok(Https {
            _service: service,
            port,
            folder,
        })
    }

    /// Where a file is, as a machine sees it.
    pub fn url(&self, file: &str) -> String {
        format!("https://{HOST}:{}/{file}", self.port)
    }

    /// The folder that is served.
    pub fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    /// The cloud kernel's initramfs with the authority.
    pub fn initramfs(&self) -> Result<PathBuf> {
        let path = self.folder.path().join("initramfs.img");
        let pem = fs::read(self.folder.path().join("ca.pem"))?;
        write_initramfs(&pem, &path)?;
        Ok(path)
    }
}

/// Writes the cloud kernel's initramfs with an authority (PEM) as one more archive: the kernel unpacks one after the other.
pub fn write_initramfs(pem: &[u8], path: &Path) -> Result<()> {
    let original = paths::built_for_cloud("initramfs.img")?;
    let mut bytes =
        fs::read(&original).with_context(|| format!("reading {}", original.display()))?;
    // Documentation/driver-api/early-userspace/buffer-format.rst: an uncompressed archive begins at four bytes.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    for folder in ["etc", "etc/pitstop", "etc/pitstop/ca"] {
        Builder::new(folder)
            .mode(0o040_755)
            .write(&mut bytes, 0)
            .finish()?;
    }
    let size = u32::try_from(pem.len())?;
    let mut file = Builder::new("etc/pitstop/ca/test.pem")
        .mode(0o100_644)
        .write(&mut bytes, size);
    std::io::Write::write_all(&mut file, pem)?;
    file.finish()?;
    trailer(&mut bytes)?;
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn make_certificates(folder: &Path) -> Result<()> {
    let years = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2024, 1, 1);
        params.not_after = date_time_ymd(2050, 1, 1);
    };
    let mut params = CertificateParams::new(Vec::new())?;
    years(&mut params);
    params.distinguished_name.push(DnType::CommonName, "tests");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let mut params = CertificateParams::new(vec![HOST.to_owned()])?;
    years(&mut params);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("server.pem", certificate.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
