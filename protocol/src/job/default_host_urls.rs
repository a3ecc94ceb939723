//! Where the host file is looked for when the command line does not say: beside what the machine booted from, as
//! DHCP or `ip=` tell it.

use crate::job::ActionName;
use crate::job::cmdline::CommandLine;
use crate::job::host_file_search::Placeholders;
use crate::machine::BootSource;
use crate::redacted;
use url::Url;

/// Where `pitstop serve` has its host files, and where anybody else may put them.
const FOLDER: &str = "hosts/";

/// What an option may name. A boot file that is no URL is on the boot server, over TFTP.
const SCHEMES: [&str; 3] = ["http", "https", "tftp"];

/// Where a host file may be: a file, or a folder that is searched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultUrl {
    pub url: Url,
    /// What named it, for people.
    pub why: String,
}

/// Whether the command line leaves something to be found: a job that is whole needs no host file.
pub fn host_file_needed(line: &CommandLine) -> bool {
    let whole =
        line.action == Some(ActionName::Rescue) || line.action.is_some() && line.share.is_some();
    line.host.is_none() && !whole
}

/// Where to look, best first: nowhere if nothing is said about any place.
///
/// # Errors
/// A sentence that says what to set, where what is said leads nowhere.
pub fn default_host_urls(
    boot: &BootSource,
    placeholders: &Placeholders,
) -> Result<Vec<DefaultUrl>, String> {
    let named = [
        (&boot.config_file, "option 209 (configuration file)"),
        (&boot.file, "option 67 (boot file)"),
    ];
    for (name, option) in named {
        if let Some(name) = name.as_deref().filter(|name| is_host_file_name(name)) {
            let name = placeholders
                .fill(name)
                .map_err(|error| format!("DHCP {option} {name}: {error}"))?;
            let url = match (absolute(&name), folder(boot)?) {
                (Some(url), _) => url,
                (None, Some(folder)) => below(&folder, &name)?,
                (None, None) => from_root(boot, &name)?,
            };
            let why = format!("DHCP {option}");
            return Ok(vec![DefaultUrl { url, why }]);
        }
    }
    let Some(folder) = folder(boot)? else {
        return Ok(Vec::new());
    };
    let mut url = below(&folder, FOLDER)?;
    let why = beside(boot);
    let mut urls = vec![DefaultUrl {
        url: url.clone(),
        why: why.clone(),
    }];
    url.set_path(FOLDER);
    // A path prefix says where everything is; a boot file may lie in a folder of its own.
    if boot.path_prefix.is_none() && urls.iter().all(|found| found.url != url) {
        urls.push(DefaultUrl { url, why });
    }
    Ok(urls)
}

/// A name that can be no boot loader and no configuration of one.
fn is_host_file_name(name: &str) -> bool {
    name.ends_with('/') || name.to_ascii_lowercase().ends_with(".toml")
}

/// What relative names are relative to: option 210, else the folder of the boot file, else the root of a server
/// that is named. Many a DHCP server names itself as the next one without being asked: that says nothing.
fn folder(boot: &BootSource) -> Result<Option<Url>, String> {
    if let Some(prefix) = &boot.path_prefix {
        let slash = if prefix.ends_with(['/', '\\']) {
            ""
        } else {
            "/"
        };
        return from_root(boot, &format!("{prefix}{slash}")).map(Some);
    }
    let Some(file) = &boot.file else {
        return match boot.server_name {
            Some(_) => from_root(boot, "").map(Some),
            None => Ok(None),
        };
    };
    let mut url = from_root(boot, file)?;
    url.set_query(None);
    url.set_fragment(None);
    let length = url.path().rfind('/').map_or(0, |slash| slash + 1);
    let folder = url.path()[..length].to_owned();
    url.set_path(&folder);
    Ok(Some(url))
}

/// A name as the boot server understands it: a URL, or a path over TFTP.
fn from_root(boot: &BootSource, name: &str) -> Result<Url, String> {
    if let Some(url) = absolute(name) {
        return Ok(url);
    }
    let address = boot.next_server.map(|address| address.to_string());
    let Some(server) = boot.server_name.as_ref().or(address.as_ref()) else {
        return Err(format!(
            "DHCP names {name} but no server that has it: set option 66 (or next-server), or give \
             pitstop.host=URL"
        ));
    };
    let root = Url::parse(&format!("tftp://{server}/"))
        .ok()
        .filter(|url| url.path() == "/" && url.username().is_empty() && url.has_host())
        .ok_or_else(|| {
            format!("DHCP option 66 is no server: {server:?}; correct it, or give pitstop.host=URL")
        })?;
    below(&root, name)
}

/// `name` in `folder`, unless it is absolute. What a query or a fragment would be in a URL is part of the name.
fn below(folder: &Url, name: &str) -> Result<Url, String> {
    if let Some(url) = absolute(name) {
        return Ok(url);
    }
    let name = name.replace('\\', "/");
    let path = match name.strip_prefix('/') {
        Some(_) => name,
        None => format!("{}{name}", folder.path()),
    };
    let mut url = folder.clone();
    url.set_path(&path);
    if url.path().contains("//") {
        return Err(format!(
            "DHCP names a place with an empty folder in it: {}",
            redacted(&url)
        ));
    }
    Ok(url)
}

fn absolute(name: &str) -> Option<Url> {
    Url::parse(name)
        .ok()
        .filter(|url| SCHEMES.contains(&url.scheme()) && url.has_host())
}

fn beside(boot: &BootSource) -> String {
    match (&boot.path_prefix, &boot.file) {
        (Some(_), _) => "DHCP option 210 (path prefix)".into(),
        (None, Some(file)) => format!("beside the boot file {file}"),
        (None, None) => "on the boot server".into(),
    }
}

/// What somebody may set who has not said what to do.
pub fn nothing_said() -> String {
    "nothing says what to do: give pitstop.host=URL, or pitstop.action=NAME and pitstop.share=URL, or let DHCP \
     name the boot server and file (options 66 and 67) or the host file (option 209 or 210)"
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn placeholders() -> Placeholders {
        Placeholders {
            hexip: Some("0A00020F".into()),
            ..Placeholders::default()
        }
    }

    fn urls(boot: &BootSource) -> Vec<String> {
        let found = default_host_urls(boot, &placeholders()).unwrap();
        found.iter().map(|found| found.url.to_string()).collect()
    }

    #[test]
    fn host_files_lie_beside_the_boot_file_or_at_the_servers_root() {
        let next_server = Some(Ipv4Addr::new(10, 0, 2, 2));
        let boot = |file: &str| BootSource {
            next_server,
            file: Some(file.into()),
            ..BootSource::default()
        };
        assert_eq!(urls(&boot("pxelinux.0")), ["tftp://10.0.2.2/hosts/"]);
        let deeper = ["tftp://10.0.2.2/boot/x64/hosts/", "tftp://10.0.2.2/hosts/"];
        assert_eq!(urls(&boot("boot/x64/pxelinux.0")), deeper);
        assert_eq!(urls(&boot("\\boot\\x64\\wdsnbp.com")), deeper);
        assert_eq!(
            urls(&boot("http://s:8080/boot/pitstop.efi?x=1")),
            ["http://s:8080/boot/hosts/", "http://s:8080/hosts/"]
        );
        let named = BootSource {
            server_name: Some("pxe.lab".into()),
            ..boot("pxelinux.0")
        };
        assert_eq!(urls(&named), ["tftp://pxe.lab/hosts/"]);
        let alone = BootSource {
            server_name: Some("pxe.lab".into()),
            ..BootSource::default()
        };
        assert_eq!(urls(&alone), ["tftp://pxe.lab/hosts/"]);
    }

    #[test]
    fn a_host_file_that_is_named_is_the_place() {
        let boot = BootSource {
            server_name: Some("10.0.2.2".into()),
            file: Some("pxelinux.0".into()),
            config_file: Some("jobs/{hexip}.toml".into()),
            ..BootSource::default()
        };
        assert_eq!(urls(&boot), ["tftp://10.0.2.2/jobs/0A00020F.toml"]);
        let prefix = BootSource {
            path_prefix: Some("/lab".into()),
            ..boot
        };
        assert_eq!(urls(&prefix), ["tftp://10.0.2.2/lab/jobs/0A00020F.toml"]);
        let pxelinux_s = BootSource {
            config_file: Some("pxelinux.cfg/lab".into()),
            ..prefix
        };
        assert_eq!(urls(&pxelinux_s), ["tftp://10.0.2.2/lab/hosts/"]);
        let by_url = BootSource {
            config_file: Some("https://s/hosts/".into()),
            ..BootSource::default()
        };
        // No server and no boot file are needed for it.
        assert_eq!(urls(&by_url), ["https://s/hosts/"]);
        let as_boot_file = BootSource {
            file: Some("http://s/{hexip}.toml".into()),
            ..BootSource::default()
        };
        assert_eq!(urls(&as_boot_file), ["http://s/0A00020F.toml"]);
    }

    #[test]
    fn nothing_to_go_by_says_what_to_set() {
        let error = |boot: BootSource| default_host_urls(&boot, &placeholders()).unwrap_err();
        // Many a DHCP server names itself here without being asked.
        let next_server = Some(Ipv4Addr::new(10, 0, 2, 2));
        let plain = BootSource {
            next_server,
            ..BootSource::default()
        };
        assert_eq!(default_host_urls(&plain, &placeholders()), Ok(Vec::new()));
        let serverless = error(BootSource {
            file: Some("pxelinux.0".into()),
            ..BootSource::default()
        });
        assert!(serverless.contains("set option 66"), "{serverless}");
        for wrong in ["a b", "u@h", "h/x", "h?x/y"] {
            let text = error(BootSource {
                server_name: Some(wrong.into()),
                file: Some("pxelinux.0".into()),
                ..BootSource::default()
            });
            assert!(text.contains("is no server"), "{wrong}: {text}");
        }
        let unknown = error(BootSource {
            config_file: Some("{name}.toml".into()),
            server_name: Some("h".into()),
            ..BootSource::default()
        });
        assert!(unknown.contains("unknown placeholder {name}"), "{unknown}");
    }

    #[test]
    fn a_job_that_is_whole_looks_for_nothing() {
        let needed = |text| host_file_needed(&CommandLine::parse(text).unwrap());
        assert!(needed(""));
        assert!(needed("pitstop.action=backup"));
        assert!(needed("pitstop.share=http://s/"));
        assert!(!needed("pitstop.action=rescue"));
        assert!(!needed("pitstop.action=backup pitstop.share=http://s/"));
        assert!(!needed("pitstop.host=http://s/"));
    }

    #[test]
    fn a_host_name_of_capitals_and_foreign_letters_is_no_place() {
        for name in [
            "http://A\u{e9}/f",
            "http://\u{e9}A/f",
            "http://xn--A\u{e9}/f",
        ] {
            assert_eq!(absolute(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_says_leads_to_a_server_of_a_kind_we_know(
            server in prop::option::of(".{0,12}"),
            file in prop::option::of("(http://)?.{0,12}(/|.toml)?"),
            config_file in prop::option::of("[a-z./\\\\{}:]{0,12}(/|.toml)?"),
            path_prefix in prop::option::of(".{0,12}"),
        ) {
            let boot = BootSource {
                next_server: None,
                server_name: server,
                file,
                config_file,
                path_prefix,
            };
            for found in default_host_urls(&boot, &placeholders()).unwrap_or_default() {
                prop_assert!(SCHEMES.contains(&found.url.scheme()));
                let above = found.url.path().split('/').any(|part| part == "..");
                prop_assert!(found.url.has_host() && !above, "{}", found.url);
            }
        }
    }
}
