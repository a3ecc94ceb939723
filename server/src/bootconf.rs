//! Configurations for boot loaders: with a job the payload, without one the machine's own disk.

use crate::arch::Architecture;
use crate::host_search::Asker;
use crate::reached::Reached;
use crate::site::{INITRAMFS, KERNEL};

/// What `/boot.ipxe` says: ask again, with the machine's names.
pub fn ipxe_entry(url: &str) -> String {
    format!(
        "#!ipxe\n\
         # iPXE fills in what it knows; the answer boots the payload or the machine's own disk.\n\
         chain {url}/ipxe?mac=${{mac}}&ip=${{ip}}&uuid=${{uuid}} || exit 1\n"
    )
}

/// The answer to `/ipxe?mac=…`: `job` is the name of the machine's host file.
pub fn ipxe(reached: &Reached, job: Option<&str>, append: &str) -> String {
    let Some(job) = job else {
        // UEFI goes on to the next boot option only if this one fails (UEFI 2.10 3.1.1). A BIOS is
        // spared the decision: some give up instead of trying the disk.
        return "#!ipxe\n\
                echo Pitstop: no job for ${ip}: booting from the local disk\n\
                iseq ${platform} efi && exit 1 ||\n\
                sanboot --no-describe --drive 0x80 || exit 1\n"
            .into();
    };
    let url = &reached.loaders;
    // Under UEFI the kernel finds its initramfs only by the name in initrd=.
    let load = |architecture: Architecture| {
        let parameters = architecture.parameters(&parameters(&reached.machines, job, append));
        let files = format!("{url}/boot/{}", architecture.folder());
        format!(
            "kernel {files}{KERNEL} initrd={INITRAMFS} {parameters} BOOTIF=01-${{mac:hexhyp}} || goto failed\n\
             initrd --name {INITRAMFS} {files}{INITRAMFS} || goto failed\n\
             boot || goto failed\n"
        )
    };
    let (x86_64, arm64) = (load(Architecture::X86_64), load(Architecture::Arm64));
    format!(
        "#!ipxe\n\
         echo Pitstop: {job} is the job of ${{ip}}\n\
         iseq ${{buildarch}} arm64 && goto arm64 ||\n\
         {x86_64}\
         :arm64\n\
         {arm64}\
         :failed\n\
         echo Pitstop: cannot load {KERNEL} and {INITRAMFS} from {url}/boot for ${{buildarch}}: trying again in 30 seconds\n\
         sleep 30\n\
         reboot\n"
    )
}

/// The answer to `pxelinux.cfg/NAME`. PXELINUX itself puts the folder it was loaded from before the names.
///
/// `job` is the host file of that name. `None` where there is none, so that PXELINUX goes on with its search: only
/// `default` always has an answer.
pub fn pxelinux(name: &str, job: Option<&str>, url: &str, append: &str) -> Option<String> {
    if let Some(job) = job {
        let parameters = parameters(url, job, append);
        return Some(format!(
            "DEFAULT pitstop\n\
             SAY Pitstop: {job} is the job of this machine\n\
             LABEL pitstop\n  \
             KERNEL {KERNEL}\n  \
             INITRD {INITRAMFS}\n  \
             APPEND {parameters}\n  \
             IPAPPEND 2\n"
        ));
    }
    // -1 hands back to the BIOS for its next boot device.
    (name == "default").then(|| {
        "DEFAULT local\n\
         SAY Pitstop: no job for this machine: booting from the local disk\n\
         LABEL local\n  \
         LOCALBOOT -1\n"
            .into()
    })
}

/// The kernel's, of a machine whose host file is `job`.
pub fn parameters(url: &str, job: &str, append: &str) -> String {
    format!("pitstop.host={url}/hosts/{job} {append}")
        .trim_end()
        .to_owned()
}

/// Reads the query of `/ipxe`: `mac=…&ip=…&uuid=…`. Other names are let pass.
pub fn asker(query: &str) -> Asker {
    let value = |wanted: &str| {
        query.split('&').find_map(|pair| {
            let (name, value) = pair.split_once('=')?;
            (name == wanted).then(|| {
                percent_encoding::percent_decode_str(value)
                    .decode_utf8_lossy()
                    .into_owned()
            })
        })
    };
    Asker::new(
        value("ip").as_deref(),
        value("mac").as_deref(),
        value("uuid").as_deref(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(loaders: &str, machines: &str) -> Reached {
        Reached {
            loaders: loaders.into(),
            machines: machines.into(),
        }
    }

    #[test]
    fn a_loader_stays_on_http_where_the_machine_works_over_https() {
        let both = reached("http://srv:8080", "https://srv:8443");
        let script = ipxe(&both, Some("0A00020F.toml"), "");
        assert!(
            script.contains("kernel http://srv:8080/boot/vmlinuz ")
                && script.contains(" pitstop.host=https://srv:8443/hosts/0A00020F.toml ")
                && script.contains(" http://srv:8080/boot/initramfs.img "),
            "{script}"
        );
    }

    #[test]
    fn a_job_boots_the_payload_and_none_the_disk() {
        let plain = reached("http://10.0.2.2:8080", "http://10.0.2.2:8080");
        let script = ipxe(&plain, Some("0A00020F.toml"), "console=ttyS0");
        assert!(script.starts_with("#!ipxe\n"));
        assert!(
            script.contains(
                "\nkernel http://10.0.2.2:8080/boot/vmlinuz initrd=initramfs.img \
                 pitstop.host=http://10.0.2.2:8080/hosts/0A00020F.toml console=ttyS0 \
                 BOOTIF=01-${mac:hexhyp} || goto failed\n\
                 initrd --name initramfs.img http://10.0.2.2:8080/boot/initramfs.img || goto failed\n\
                 boot ||"
            ),
            "{script}"
        );
        let arm64 = script.split_once("\n:arm64\n").unwrap().1;
        assert!(
            script.contains("\niseq ${buildarch} arm64 && goto arm64 ||\n")
                && arm64.starts_with(
                    "kernel http://10.0.2.2:8080/boot/arm64/vmlinuz initrd=initramfs.img \
                     pitstop.host=http://10.0.2.2:8080/hosts/0A00020F.toml console=ttyAMA0 console=ttyS0 BOOTIF="
                )
                && arm64.contains(" http://10.0.2.2:8080/boot/arm64/initramfs.img "),
            "{script}"
        );
        let local = ipxe(&plain, None, "console=ttyS0");
        assert!(
            local.contains("\nsanboot --no-describe --drive 0x80 || exit 1\n"),
            "{local}"
        );
        assert!(!local.contains("kernel"), "{local}");
        assert!(
            ipxe_entry("http://a:1")
                .contains("chain http://a:1/ipxe?mac=${mac}&ip=${ip}&uuid=${uuid}")
        );
    }

    #[test]
    fn pxelinux_finds_a_job_under_its_names_and_else_boots_the_disk() {
        let config = |name: &str, job| pxelinux(name, job, "http://s:80", "quiet");
        assert_eq!(
            config("0A00020F", Some("0A00020F.toml")).as_deref(),
            Some(
                "DEFAULT pitstop\nSAY Pitstop: 0A00020F.toml is the job of this machine\n\
                 LABEL pitstop\n  KERNEL vmlinuz\n  INITRD initramfs.img\n  \
                 APPEND pitstop.host=http://s:80/hosts/0A00020F.toml quiet\n  IPAPPEND 2\n"
            )
        );
        assert_eq!(config("01-52-54-00-12-34-56", None), None);
        assert!(config("default", None).unwrap().contains("LOCALBOOT -1"));
        let all = config("default", Some("default.toml")).unwrap();
        assert!(all.contains("/hosts/default.toml quiet"), "{all}");
    }

    #[test]
    fn a_query_is_read() {
        let asker = asker("mac=52%3A54:00:12:34:56&ip=10.0.2.15&uuid=&x&serial=a=b");
        assert_eq!(asker.mac, "52:54:00:12:34:56".parse().ok());
        assert_eq!(asker.ip, Some("10.0.2.15".parse().unwrap()));
        assert_eq!(asker.uuid, None);
    }
}
