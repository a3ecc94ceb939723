//! Files by layer: folders on the share that are laid over each other for a machine, as the sections of the fleet file are.

use crate::fleet::{Fleet, Machine};
use crate::keys::Kind;
use crate::settings::Layer;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

/// The folder on the share that has them.
pub const LAYERS: &str = "layers";
/// No overlay has more: what does is a whole system, put there by mistake.
pub const MOST_ENTRIES: usize = 100_000;

/// What lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Folder,
    /// Bytes.
    File {
        size: u64,
    },
    /// Where it leads, as it is written.
    Link {
        target: String,
    },
    /// A device, a socket, a pipe.
    Other,
}

impl Node {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::File { .. } => "file",
            Self::Link { .. } => "link",
            Self::Other => "special file",
        }
    }
}

/// A folder of one layer, and what lies below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub layer: Layer,
    /// By path below the folder, with slashes between.
    pub nodes: Vec<(String, Node)>,
}

/// One path of what comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    pub node: Node,
    /// Who gave it.
    pub layer: Layer,
    /// Whose it would be else, the nearest last.
    pub hides: Vec<Layer>,
}

impl Layer {
    /// Its folder below [`LAYERS`]. A slash in a network's name is written `_`: `network/192.168.1.0_24`.
    pub fn folder(&self) -> String {
        let kind = match self.kind {
            Kind::Server => "server",
            Kind::Base => return "base".into(),
            Kind::Network => "network",
            Kind::Group => "group",
            Kind::Host => "host",
            Kind::Ip => "ip",
        };
        format!("{kind}/{}", self.name.replace('/', "_"))
    }
}

impl Fleet {
    /// The layers of files of a machine, the later one winning. Whether there is a folder for one is another matter; a layer
    /// needs no section in the file.
    pub fn file_layers(&self, machine: &Machine) -> Vec<Layer> {
        let layer = |kind, name: String| Layer { kind, name };
        let network = machine.network.and_then(|at| self.networks.get(at));
        let groups = machine.groups.iter().filter_map(|at| self.groups.get(*at));
        let base = std::iter::once(layer(Kind::Base, String::new()));
        base.chain(network.map(|network| layer(Kind::Network, network.net.to_string())))
            .chain(groups.map(|group| layer(Kind::Group, group.name.clone())))
            .chain([layer(Kind::Host, machine.name.clone())])
            .chain(machine.ip.map(|ip| layer(Kind::Ip, ip.to_string())))
            .collect()
    }

    /// Why no machine has the layer of this folder, such as `group/lab4`.
    pub fn stray_layer(&self, folder: &str) -> Option<String> {
        let stray = |what: String| Some(format!("{LAYERS}/{folder} is for no machine: {what}"));
        if folder == "base" {
            return None;
        }
        let Some((kind, name)) = folder.split_once('/') else {
            return stray("there are base, network, group, host and ip".into());
        };
        match kind {
            "group" if self.group(name).is_some() => None,
            "group" => stray(format!("nobody defined the group {name:?}")),
            "host" if self.named(name).is_some_and(|machine| machine.name == name) => None,
            "host" => stray(format!("no machine is named {name}")),
            "network" => {
                let net = name.replacen('_', "/", 1).parse::<IpNet>();
                let known = |net: IpNet| self.networks.iter().any(|network| network.net == net);
                match net {
                    Ok(net) if net.to_string().replace('/', "_") != name => {
                        stray(format!("write it as {}", net.to_string().replace('/', "_")))
                    }
                    Ok(net) if known(net) => None,
                    Ok(net) => stray(format!("{net} is no network of the file")),
                    Err(_) => {
                        stray("a network's folder is named as in network/192.168.1.0_24".into())
                    }
                }
            }
            "ip" => match name.parse::<IpAddr>() {
                Ok(ip) if ip.to_string() != name => stray(format!("write it as {ip}")),
                Ok(ip) if self.machines.iter().any(|machine| machine.ip == Some(ip)) => None,
                Ok(ip) => stray(format!("no machine has the address {ip}")),
                Err(_) => stray(format!("{name:?} is no address")),
            },
            _ => stray("there are base, network, group, host and ip".into()),
        }
    }
}

/// Lays folders over each other, the later one winning. What comes out, by path, without the folders between.
///
/// # Errors
/// Sentences that name the paths and the layers: what is a folder in one layer and none in another, links that lead out, and
/// what is neither file, folder nor link.
pub fn lay(folders: &[&Folder]) -> Result<BTreeMap<String, Laid>, Vec<String>> {
    let mut laid: BTreeMap<&str, Laid> = BTreeMap::new();
    let mut problems = Vec::new();
    for folder in folders {
        for (path, node) in &folder.nodes {
            if let Some(what) = wrong(path, node, &folder.layer) {
                problems.push(what);
                continue;
            }
            let mut hides = Vec::new();
            if let Some(below) = laid.get(path.as_str()) {
                let (one, other) = (node == &Node::Folder, below.node == Node::Folder);
                if one != other {
                    problems.push(format!(
                        "{} is a {}, and {} is a {}: one cannot lie over the other",
                        place(&folder.layer, path),
                        node.name(),
                        place(&below.layer, path),
                        below.node.name()
                    ));
                    continue;
                }
                hides.clone_from(&below.hides);
                hides.push(below.layer.clone());
            }
            laid.insert(
                path,
                Laid {
                    node: node.clone(),
                    layer: folder.layer.clone(),
                    hides,
                },
            );
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    // A folder with something in it is told by that.
    let parents: HashSet<&str> = laid
        .keys()
        .filter_map(|path| path.rsplit_once('/').map(|(parent, _)| parent))
        .collect();
    let shown = laid.iter().filter(|(path, _)| !parents.contains(*path));
    Ok(shown
        .map(|(path, laid)| ((*path).to_owned(), laid.clone()))
        .collect())
}

fn place(layer: &Layer, path: &str) -> String {
    format!("{LAYERS}/{}/{path}", layer.folder())
}

fn wrong(path: &str, node: &Node, layer: &Layer) -> Option<String> {
    match node {
        Node::Other => Some(format!(
            "{} is neither a file, a folder nor a link",
            place(layer, path)
        )),
        Node::Link { target } if leads_out(path, target) => Some(format!(
            "{} is a link that leads out of the machine's own files: {target}",
            place(layer, path)
        )),
        _ => None,
    }
}

/// Whether a link climbs above the root of the machine. One that begins with a slash begins at that root.
fn leads_out(path: &str, target: &str) -> bool {
    let mut depth = if target.starts_with('/') {
        0
    } else {
        path.matches('/').count()
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." if depth == 0 => return true,
            ".." => depth -= 1,
            _ => depth += 1,
        }
    }
    target.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fleet() -> Fleet {
        let text = "version = 1\n[network.\"10.0.2.0/24\"]\n[group.b]\nmatch = \"l*\"\n[group.a]\nmatch = \"l*\"\n\
                    [host.\"lab-[1-2]\"]\nip = \"10.0.2.[1-2]\"\n[network.\"2001:db8::/64\"]\n";
        Fleet::parse(text.as_bytes(), "fleet.toml").unwrap()
    }

    fn file(size: u64) -> Node {
        Node::File { size }
    }

    fn link(target: &str) -> Node {
        let target = target.to_owned();
        Node::Link { target }
    }

    fn folder(kind: Kind, name: &str, nodes: &[(&str, Node)]) -> Folder {
        Folder {
            layer: Layer {
                kind,
                name: name.into(),
            },
            nodes: nodes
                .iter()
                .map(|(path, node)| ((*path).to_owned(), node.clone()))
                .collect(),
        }
    }

    #[test]
    fn the_layers_of_files_are_those_of_settings() {
        let fleet = fleet();
        let layers = fleet.file_layers(fleet.named("lab-2").unwrap());
        let folders: Vec<String> = layers.iter().map(Layer::folder).collect();
        assert_eq!(
            folders,
            [
                "base",
                "network/10.0.2.0_24",
                "group/b",
                "group/a",
                "host/lab-2",
                "ip/10.0.2.2"
            ]
        );
        for known in folders {
            assert_eq!(fleet.stray_layer(&known), None);
        }
        assert_eq!(fleet.stray_layer("network/2001:db8::_64"), None);
        for (stray, why) in [
            ("group/c", "nobody defined the group \"c\""),
            ("host/lab-3", "no machine is named lab-3"),
            ("host/LAB-2", "no machine is named LAB-2"),
            ("network/10.0.2.0-24", "as in network/192.168.1.0_24"),
            ("network/10.0.3.0_24", "10.0.3.0/24 is no network"),
            ("network/2001:db8:0::_64", "write it as 2001:db8::_64"),
            ("ip/10.0.2.9", "no machine has"),
            ("ip/x", "no address"),
            ("bsae", "there are base, network"),
            ("hosts/a", "there are base, network"),
        ] {
            let told = fleet.stray_layer(stray).unwrap();
            assert!(
                told.starts_with(&format!("layers/{stray} is for no machine: ")),
                "{told}"
            );
            assert!(told.contains(why), "{told}");
        }
    }

    #[test]
    fn the_later_layer_wins_and_what_it_hides_is_told() {
        let base = folder(
            Kind::Base,
            "",
            &[
                ("etc", Node::Folder),
                ("etc/motd", file(1)),
                ("etc/only", file(2)),
                ("var", Node::Folder),
            ],
        );
        let group = folder(
            Kind::Group,
            "a",
            &[("etc", Node::Folder), ("etc/motd", file(3))],
        );
        let host = folder(
            Kind::Host,
            "h",
            &[
                ("etc", Node::Folder),
                ("etc/motd", link("../usr/motd")),
                ("etc/tz", link("/usr/tz")),
            ],
        );
        let laid = lay(&[&base, &group, &host]).unwrap();
        let told: Vec<(&str, &str, Vec<String>)> = laid
            .iter()
            .map(|(path, laid)| {
                let hides = laid.hides.iter().map(Layer::folder).collect();
                (path.as_str(), laid.node.name(), hides)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("etc/motd", "link", vec!["base".into(), "group/a".into()]),
                ("etc/only", "file", vec![]),
                ("etc/tz", "link", vec![]),
                ("var", "folder", vec![]),
            ]
        );
        assert_eq!(laid["etc/motd"].layer.folder(), "host/h");
        assert!(lay(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_cannot_lie_over_something_is_told() {
        let base = folder(Kind::Base, "", &[("etc", Node::Folder), ("etc/x", file(1))]);
        let host = folder(
            Kind::Host,
            "h",
            &[
                ("etc", link("/usr/etc")),
                ("out", link("../x")),
                ("out2", link("/a/../../x")),
                ("dev", Node::Other),
            ],
        );
        assert_eq!(
            lay(&[&base, &host]).unwrap_err(),
            [
                "layers/host/h/etc is a link, and layers/base/etc is a folder: one cannot lie over the other",
                "layers/host/h/out is a link that leads out of the machine's own files: ../x",
                "layers/host/h/out2 is a link that leads out of the machine's own files: /a/../../x",
                "layers/host/h/dev is neither a file, a folder nor a link",
            ]
        );
        let under = lay(&[&host, &base]).unwrap_err();
        assert!(
            under
                .iter()
                .any(|what| what.starts_with("layers/base/etc is a folder, and "))
        );
    }

    proptest! {
        #[test]
        fn any_link_and_any_name_is_looked_at_without_panic(path in "[a./]{0,12}", target in "[a./]{0,12}", name in "[a-z0-9./_:]{0,20}") {
            let _ = leads_out(&path, &target);
            let _ = fleet().stray_layer(&name);
        }
    }
}
