//! What is one machine's alone and stays all the same: nobody but its admin can make it anew. It is told.

use super::{Given, is_given};
use crate::files::Files;
use pitstop_imaging::event::Reporter;

/// Keys by which servers and peers know a machine: folder, and how the names of its files begin and end.
const KEYS: [(&str, &str, &str); 13] = [
    ("etc", "krb5.keytab", ""),
    ("etc/ssl/private", "ssl-cert-snakeoil", ".key"),
    ("etc/pki/consumer", "key", ".pem"),
    ("etc/sysconfig/rhn", "systemid", ""),
    ("etc/zypp/credentials.d", "SCCcredentials", ""),
    ("etc/puppet/ssl/private_keys", "", ".pem"),
    ("etc/puppetlabs/puppet/ssl/private_keys", "", ".pem"),
    ("var/lib/puppet/ssl/private_keys", "", ".pem"),
    ("etc/wireguard", "", ".conf"),
    ("etc/kubernetes", "kubelet", ".conf"),
    ("var/lib/kubelet/pki", "", ".pem"),
    ("var/lib/samba/private", "secrets", ".tdb"),
    ("var/lib/tailscale", "tailscaled", ".state"),
];
/// Files in which services keep the machine's name.
const NAMED: [&str; 10] = [
    "etc/postfix/main.cf",
    "etc/exim4/update-exim4.conf.conf",
    "etc/samba/smb.conf",
    "etc/salt/minion",
    "etc/puppet/puppet.conf",
    "etc/puppetlabs/puppet/puppet.conf",
    "etc/zabbix/zabbix_agentd.conf",
    "etc/zabbix/zabbix_agent2.conf",
    "etc/chef/client.rb",
    "etc/kubernetes/kubelet.conf",
];

/// Names keys of services that this machine shares with the one that its tree is of.
pub fn tell_keys(files: &Files, given: &Given, reporter: &dyn Reporter) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for (folder, start, end) in KEYS {
        let names = files.list(folder)?.into_iter();
        let names = names.filter(|name| name.starts_with(start) && name.ends_with(end));
        found.extend(names.map(|name| format!("{folder}/{name}")));
    }
    found.retain(|path| !is_given(given, path));
    if !found.is_empty() {
        reporter.warn(format!(
            "/{} stay as the tree has them, and every machine of this tree has the same: make them anew in a hook, or leave them \
             out of the tree (exclude)",
            found.join(", /")
        ));
    }
    Ok(())
}

/// Names configurations that still have the old name of the machine.
pub fn tell_name(
    files: &Files,
    old: &str,
    given: &Given,
    reporter: &dyn Reporter,
) -> anyhow::Result<()> {
    // Few name the domain as well.
    let old = old.split('.').next().unwrap_or(old);
    for path in NAMED.iter().filter(|path| !is_given(given, path)) {
        let text = files.text(path)?.unwrap_or_default();
        if text.lines().any(|line| has_name(line, old)) {
            reporter.warn(format!(
                "/{path} has the name {old}, and stays as it is: change it in a hook"
            ));
        }
    }
    Ok(())
}

/// Whether a line that is no comment has the name as a word, alone or with a domain behind it.
fn has_name(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    if name.is_empty() || line.starts_with(['#', ';']) {
        return false;
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let words = line.split(|c| !is_part(c));
    words.into_iter().any(|word| {
        let rest = word.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_tree::{Told, tree};

    #[test]
    fn keys_and_names_that_stay_are_told() {
        let (_folder, root) = tree(&[
            ("etc/krb5.keytab", "k"),
            ("var/lib/kubelet/pki/kubelet-client-current.pem", "k"),
            ("var/lib/samba/private/secrets.tdb", "k"),
            (
                "etc/postfix/main.cf",
                "# golden\nmyhostname = golden.example.org\n",
            ),
            ("etc/samba/smb.conf", "netbios name = golden2\n"),
        ]);
        let (files, told) = (Files::of(&root).unwrap(), Told::default());
        let given =
            Given::from([pitstop_trees::path::TreePath::parse(b"etc/krb5.keytab").unwrap()]);
        tell_keys(&files, &given, &told).unwrap();
        tell_name(&files, "golden.lab.example", &given, &told).unwrap();
        let lines = told.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(told.has("/var/lib/kubelet/pki/kubelet-client-current.pem, /var/lib/samba/private/secrets.tdb stay"));
        assert!(told.has("/etc/postfix/main.cf has the name golden"));
    }

    #[test]
    fn a_name_counts_as_a_word() {
        for (line, has) in [
            ("myhostname = web", true),
            ("x='web.lab'", true),
            ("web", true),
            ("  # web", false),
            ("webserver", false),
            ("my-web", false),
            ("", false),
        ] {
            assert_eq!(has_name(line, "web"), has, "{line}");
        }
        assert!(!has_name("a", ""));
    }
}
