//! `pitstop fleet` from outside: a lab in one file, changed by command, imported, and installed into other servers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, text: &str) {
        fs::write(self.path().join("fleet.toml"), text).unwrap();
    }

    fn file(&self) -> String {
        fs::read_to_string(self.path().join("fleet.toml")).unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        self.run_with(words, "")
    }

    /// With a folder before those of the system's programs.
    fn run_with(&self, words: &[&str], path: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_pitstop"))
            .arg("fleet")
            .args(words)
            .arg("--root")
            .arg(self.path())
            .env("PATH", format!("{path}:/usr/sbin:/usr/bin:/sbin:/bin"))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it wrote to standard output and to standard error.
    #[track_caller]
    fn says(&self, words: &[&str]) -> (String, String) {
        let output = self.run(words);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words:?}: {errors}");
        (String::from_utf8(output.stdout).unwrap(), errors)
    }

    #[track_caller]
    fn fails(&self, words: &[&str]) -> String {
        failed(&self.run(words))
    }
}

#[track_caller]
fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const FORTY: &str = r#"version = 1
[server]
url = "http://192.168.1.10:8080"
[base]
attempts = 3
[network."192.168.1.0/24"]
router = "192.168.1.1"
dns = ["192.168.1.1"]
domain = "lab.example"
range = "192.168.1.150-192.168.1.199"
[group.lab3]
match = "lab3-*"
image = "golden-lab3"
kernel-args = "console=ttyS1,115200"
[host."lab3-[01-40]"]
mac = ["52:54:00:00:01:[01-40]"]
ip = "192.168.1.[101-140]"
token = "hush"
"#;

#[test]
fn forty_machines_are_listed_shown_and_checked() {
    let lab = Lab::new();
    lab.write(FORTY);
    assert!(
        lab.does(&["check"])
            .contains("fleet.toml: 40 machines, 1 network, 1 group: all is well")
    );
    assert_eq!(lab.does(&["check", "--json"]), "[]\n");
    assert_eq!(lab.does(&["list"]).lines().count(), 41);
    assert_eq!(lab.does(&["list", "--all"]).lines().count(), 41);
    let some = lab.does(&["list", "lab3-0[1-3]", "192.168.1.140", "52:54:00:00:01:20"]);
    assert_eq!(some.lines().count(), 6, "{some}");
    assert!(
        some.contains("lab3-40  192.168.1.140  52:54:00:00:01:40  lab3\n"),
        "{some}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&lab.does(&["list", "--json", "@lab3"])).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 40);
    assert_eq!(json[6]["ip"], "192.168.1.107");
    let shown = lab.does(&["show", "lab3-07"]);
    for words in [
        "image = \"golden-lab3\"",
        "group.lab3, line 13",
        "attempts = 3",
        "base, line 5",
        "router = \"192.168.1.1\"",
        "network.\"192.168.1.0/24\", line 7",
        "mac = [\"52:54:00:00:01:07\"]",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(
        !shown.contains("hush") && shown.contains("(secret)"),
        "{shown}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&lab.does(&["show", "lab3-07", "--json"])).unwrap();
    assert_eq!(json["settings"]["image"]["layer"], "group.lab3");
    assert_eq!(json["settings"]["image"]["line"], 13);
    // What may be several is one array, of one as well.
    for (selector, count) in [("lab3-0[1-3]", 3), ("@lab3", 40), ("lab3-07*", 1)] {
        let json: serde_json::Value =
            serde_json::from_str(&lab.does(&["show", selector, "--json"])).unwrap();
        assert_eq!(json.as_array().map(Vec::len), Some(count), "{selector}");
        assert_eq!(json[0]["settings"]["image"]["layer"], "group.lab3");
    }
    assert!(
        lab.fails(&["list", "lab3-99"])
            .contains("no machine is named lab3-99")
    );
}

#[test]
fn what_is_wrong_is_told_with_file_and_both_lines() {
    let lab = Lab::new();
    assert!(lab.fails(&["check"]).contains("there is no "));
    lab.write(&format!(
        "{FORTY}[host.other]\nmac = \"52:54:00:00:01:05\"\nip = \"10.0.0.1\"\nimgae = \"x\"\n"
    ));
    let errors = lab.fails(&["check"]);
    for words in [
        "fleet.toml, line 20: the mac 52:54:00:00:01:05 of other is also that of lab3-05 in line 16",
        "fleet.toml, line 21: the address 10.0.0.1 of other is in no network",
        "fleet.toml, line 22: unknown key \"imgae\": did you mean \"image\"?",
    ] {
        assert!(errors.contains(words), "{words}: {errors}");
    }
    lab.write(&"[".repeat(10 << 20));
    assert!(lab.fails(&["list"]).contains("it has 10 MiB"));
}

#[test]
fn commands_change_the_file_and_nothing_else_in_it() {
    let lab = Lab::new();
    lab.does(&[
        "set",
        "10.0.0.0/24",
        "router=10.0.0.1",
        "dns=10.0.0.1,9.9.9.9",
    ]);
    lab.does(&[
        "add",
        "desk",
        "--mac",
        "52:54:00:00:00:01",
        "--ip",
        "10.0.0.9",
        "attempts=5",
    ]);
    let text = format!(
        "# Mine\n{}",
        lab.file()
            .replace("attempts = 5", "attempts = 5 # patience")
    );
    lab.write(&text);
    fs::set_permissions(
        lab.path().join("fleet.toml"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    // Jobs that cannot be read make no error of what is written.
    let jobs = lab.path().join("jobs");
    fs::write(&jobs, "").unwrap();
    let said = lab.does(&["set", "desk", "attempts=7", "disks=sda"]);
    assert!(said.contains("is set in"), "{said}");
    let checked = lab.run(&["check"]);
    assert!(checked.status.success(), "{checked:?}");
    let warned = String::from_utf8_lossy(&checked.stderr);
    assert!(
        warned.contains("jobs under old addresses are not told"),
        "{warned}"
    );
    fs::remove_file(jobs).unwrap();
    lab.does(&["set", "@front", "match=de*", "image=golden"]);
    lab.does(&["set", "--base", "verify=true"]);
    assert_eq!(
        lab.file(),
        "# Mine\nversion = 1\n\n[network.\"10.0.0.0/24\"]\nrouter = \"10.0.0.1\"\ndns = [\"10.0.0.1\", \"9.9.9.9\"]\n\n\
         [host.desk]\nmac = [\"52:54:00:00:00:01\"]\nip = \"10.0.0.9\"\nattempts = 7 # patience\ndisks = [\"sda\"]\n\n\
         [group.front]\nmatch = \"de*\"\nimage = \"golden\"\n\n[base]\nverify = true\n"
    );
    let mode = fs::metadata(lab.path().join("fleet.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    let before = lab.file();
    for (words, why) in [
        (&["add", "desk"][..], "is in "),
        (
            &["add", "b", "--mac", "52:54:00:00:00:01"],
            "stays as it is: it would be wrong",
        ),
        (&["add", "b", "--ip", "10.0.1.9"], "is in no network"),
        (&["set", "desk", "attempts=0"], "1 or more"),
        (&["set", "desk", "zebra=0"], "unknown key \"zebra\""),
        (&["set", "dekk", "attempts=1"], "did you mean desk?"),
        (&["set", "desk", "--unset", "verify"], "has no verify"),
        (&["remove", "dekk"], "did you mean desk?"),
    ] {
        let error = lab.fails(words);
        assert!(error.contains(why), "{words:?}: {error}");
        assert_eq!(lab.file(), before);
    }
    lab.does(&["add", "l-[1-3]", "--ip", "10.0.0.[11-13]"]);
    assert!(
        lab.fails(&["set", "l-2", "attempts=1"])
            .contains("pitstop fleet set 10.0.0.12")
    );
    lab.does(&["set", "10.0.0.12", "attempts=1"]);
    assert!(lab.does(&["show", "l-2"]).contains("attempts = 1"));
    lab.does(&["remove", "l-[1-3]", "desk"]);
    assert!(lab.does(&["list"]).contains("no machines yet"));
}

#[test]
fn two_commands_at_once_both_count() {
    let lab = Lab::new();
    lab.write("version = 1\n");
    std::thread::scope(|threads| {
        for n in 0..8 {
            let lab = &lab;
            threads.spawn(move || {
                lab.does(&[
                    "add",
                    &format!("m{n}"),
                    "--mac",
                    &format!("52:54:00:00:00:0{n}"),
                ])
            });
        }
    });
    assert_eq!(lab.does(&["list"]).lines().count(), 9);
}

#[test]
fn an_import_is_whole_and_lists_what_it_leaves() {
    let lab = Lab::new();
    let conf = lab.path().join("clients.conf");
    fs::write(&conf, "!client-1 homer 00:11:22:33:44:55 192.168.1.11\n!kernel-1 2.6\n!option-1 quiet\n!client-2 marge 00:11 192.168.1.12\n").unwrap();
    let conf = conf.to_str().unwrap();
    lab.does(&["import", conf, "--from", "clients.conf", "--dry-run"]);
    assert!(!lab.path().join("fleet.toml").exists());
    let output = lab.run(&["import", conf, "--from", "clients.conf"]);
    assert!(output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("clients.conf, line 2: the kernel 2.6"),
        "{errors}"
    );
    assert!(
        errors.contains("clients.conf, line 4: marge: \"00:11\" is not the MAC"),
        "{errors}"
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 machine of "));
    assert!(
        lab.does(&["show", "homer"])
            .contains("kernel-args = \"quiet\"")
    );
    let before = lab.file();
    assert!(
        lab.does(&["import", conf, "--from", "clients.conf"])
            .contains("1 machine there already")
    );
    assert_eq!(lab.file(), before);
    let none = lab.fails(&["import", "/etc/hostname", "--from", "clients.conf"]);
    assert!(
        none.contains("has no machine that could be taken"),
        "{none}"
    );
}

/// Programs that stand for systemd's and a checker, and write down what they were asked.
fn programs(lab: &Lab, systemctl: &str) -> String {
    let folder = lab.path().join("programs");
    fs::create_dir_all(&folder).unwrap();
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}/asked\n{systemctl}\n",
        lab.path().display()
    );
    let file = folder.join("systemctl");
    fs::write(&file, script).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn a_configuration_is_checked_installed_once_and_put_back_if_the_server_dies() {
    let lab = Lab::new();
    lab.write(FORTY);
    let conf = lab.path().join("pitstop.conf");
    let old = lab.path().join("pitstop.conf.old");
    fs::write(&conf, "# the admin's\n").unwrap();
    let words = [
        "generate",
        "dnsmasq",
        "--install",
        "--reload",
        "-o",
        conf.to_str().unwrap(),
    ];
    let asked = || fs::read_to_string(lab.path().join("asked")).unwrap_or_default();

    let dies = programs(&lab, "[ \"$1\" = restart ]");
    let error = failed(&lab.run_with(&words, &dies));
    assert!(
        error.contains("pitstop.conf does not work: the file before is back"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&conf).unwrap(), "# the admin's\n");
    fs::remove_file(lab.path().join("asked")).unwrap();

    let lives = programs(&lab, "exit 0");
    assert!(lab.run_with(&words, &lives).status.success());
    assert!(
        fs::read_to_string(&conf)
            .unwrap()
            .contains("dhcp-host=52:54:00:00:01:40,192.168.1.140,lab3-40\n")
    );
    assert_eq!(fs::read_to_string(&old).unwrap(), "# the admin's\n");
    assert_eq!(asked(), "restart dnsmasq\nis-active dnsmasq\n");

    // Unchanged: neither a file nor the server is touched.
    let made = fs::metadata(&conf).unwrap().modified().unwrap();
    assert!(lab.run_with(&words, &lives).status.success());
    assert_eq!(fs::metadata(&conf).unwrap().modified().unwrap(), made);
    assert_eq!(asked(), "restart dnsmasq\nis-active dnsmasq\n");

    // A loader's name that dnsmasq's check cannot refuse is refused by ours; a checker that refuses changes nothing.
    let refuses = lab.path().join("programs/dnsmasq");
    fs::write(
        &refuses,
        "#!/bin/sh\necho 'bad option at line 7' >&2\nexit 1\n",
    )
    .unwrap();
    fs::set_permissions(&refuses, fs::Permissions::from_mode(0o755)).unwrap();
    let before = fs::read_to_string(&conf).unwrap();
    lab.does(&[
        "add",
        "more",
        "--mac",
        "52:54:00:00:02:01",
        "--ip",
        "192.168.1.20",
    ]);
    let error = failed(&lab.run_with(&words, &lives));
    assert!(
        error.contains("dnsmasq does not take the configuration")
            && error.contains("bad option at line 7"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&conf).unwrap(), before);
    assert_eq!(fs::read_to_string(&old).unwrap(), "# the admin's\n");
}

#[test]
fn copies_in_a_folder_that_the_server_reads_are_none_of_its_files() {
    let lab = Lab::new();
    lab.write(FORTY);
    let folder = lab.path().join("dnsmasq.d");
    fs::create_dir(&folder).unwrap();
    let conf = folder.join("pitstop.conf");
    let words = [
        "generate",
        "dnsmasq",
        "--install",
        "-o",
        conf.to_str().unwrap(),
    ];
    fs::write(&conf, "dhcp-host=52:54:00:00:01:01,192.168.1.101\n").unwrap();
    lab.does(&words);
    lab.does(&["set", "192.168.1.0/24", "ntp=192.168.1.1"]);
    lab.does(&words);
    let mut names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            ".pitstop.conf.before-pitstop",
            ".pitstop.conf.old",
            "pitstop.conf"
        ]
    );
    // As Debian's service starts it.
    let output = Command::new("dnsmasq")
        .args(["--test", "-C", "/dev/null"])
        .arg(format!(
            "--conf-dir={},.dpkg-dist,.dpkg-old,.dpkg-new",
            folder.display()
        ))
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .expect("this test needs dnsmasq; .ci/setup test installs it");
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn what_the_admin_wrote_stays_with_its_mode() {
    let lab = Lab::new();
    lab.write(FORTY);
    let conf = lab.path().join("kea.conf");
    fs::write(&conf, "// the admin's\n").unwrap();
    fs::set_permissions(&conf, fs::Permissions::from_mode(0o640)).unwrap();
    let words = ["generate", "kea", "--install", "-o", conf.to_str().unwrap()];
    let said = lab.does(&words);
    assert!(said.contains("kea.conf.before-pitstop stays"), "{said}");
    let first = fs::read_to_string(&conf).unwrap();
    lab.does(&["set", "192.168.1.0/24", "ntp=192.168.1.1"]);
    let again = lab.does(&words);
    assert!(!again.contains("before-pitstop"), "{again}");
    for (name, text) in [
        ("kea.conf.old", first.as_str()),
        ("kea.conf.before-pitstop", "// the admin's\n"),
    ] {
        let path = lab.path().join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "{name}");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o640, "{name}");
    }
}

#[test]
fn every_format_is_made_and_the_servers_own_checkers_take_it() {
    let lab = Lab::new();
    lab.write(FORTY);
    for format in ["dnsmasq", "dhcpd", "kea", "exports", "hosts"] {
        let file = lab.path().join(format!("{format}.conf"));
        let path = file.to_str().unwrap();
        lab.does(&["generate", format, "--install", "-o", path]);
        assert_eq!(
            fs::read_to_string(&file).unwrap(),
            lab.does(&["generate", format]),
            "{format}"
        );
    }
    let folder = lab.path().join("pxelinux.cfg");
    lab.does(&["generate", "pxelinux", "-o", folder.to_str().unwrap()]);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 41);
    assert!(
        lab.does(&["generate", "pxelinux"])
            .contains("# pxelinux.cfg/01-52-54-00-00-01-40\n")
    );
    lab.write("version = 1\n[network.\"10.0.0.0/24\"]\n");
    // No server was ever started here, and the file names none: a guess, and it is told.
    let (made, told) = lab.says(&["generate", "kea"]);
    assert!(made.contains("boot.ipxe"), "{made}");
    assert!(told.contains("no server has served"), "{told}");
    assert!(lab.says(&["generate", "hosts"]).1.is_empty());
    assert!(
        lab.does(&["generate", "kea", "--url", "http://10.0.0.2:8080"])
            .contains("boot.ipxe")
    );
}

/// A lab of forty, and one machine that is known by its card alone.
struct Jobs(Lab);

/// Where machines reach the server.
const URL: [&str; 2] = ["--url", "http://192.168.1.10:8080"];

impl Jobs {
    fn new() -> Self {
        let lab = Lab::new();
        lab.write(&format!(
            "{FORTY}[ip.\"192.168.1.102\"]\nimage = \"two\"\ngrow = true\n[host.cardonly]\nmac = \"52:54:00:00:09:09\"\n"
        ));
        for folder in ["golden-lab3", "two"] {
            let folder = lab.path().join("share").join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("sda.raw.gz"), "").unwrap();
        }
        Self(lab)
    }

    fn host(&self, words: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pitstop"));
        let root = self.0.path();
        command.arg("host").args(words).arg("--root").arg(root);
        command.output().unwrap()
    }

    fn does(&self, words: &[&str]) -> String {
        let output = self.host(words);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// How many host files there are.
    fn count(&self) -> usize {
        fs::read_dir(self.0.path().join("hosts")).unwrap().count()
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join("hosts").join(name)).unwrap()
    }
}

#[test]
fn a_selector_sets_one_job_a_machine_with_what_its_layers_say() {
    let lab = Jobs::new();
    let said = lab.does(&[&["set", "@lab3", "restore", "--attempts", "9"], &URL[..]].concat());
    assert!(said.contains("40 machines do: restore"), "{said}");
    assert!(said.contains("  lab3-02 (192.168.1.102)  two\n"), "{said}");
    assert_eq!(lab.count(), 40);
    let first = lab.file("C0A80165.toml");
    for line in [
        "action = \"restore\"",
        "image = \"golden-lab3\"",
        "attempts = 9",
        "token = \"hush\"",
        "delete = [\"http://192.168.1.10:8080/hosts/C0A80165.toml\"]",
    ] {
        assert!(first.lines().any(|there| there == line), "{line}: {first}");
    }
    assert!(
        !first.contains("kernel-args") && !first.contains("router"),
        "{first}"
    );
    assert!(lab.file("C0A80166.toml").contains("grow = true\n"));

    // By its address a machine of the file has its layers, too; grow is of no use to a backup.
    lab.does(&[&["set", "192.168.1.102", "backup-again"], &URL[..]].concat());
    let second = lab.file("C0A80166.toml");
    assert!(
        second.contains("image = \"two\"\n") && !second.contains("grow"),
        "{second}"
    );
    let one = lab.does(&[&["set", "cardonly", "rescue"], &URL[..]].concat());
    assert!(
        one.contains("cardonly (52:54:00:00:09:09) does: rescue"),
        "{one}"
    );
    assert_eq!(lab.count(), 41);

    assert_eq!(
        lab.does(&["list", "lab3-0[1-3],cardonly"]).lines().count(),
        5
    );
    assert_eq!(lab.does(&["clear", "lab3-*"]).lines().count(), 40);
    assert_eq!(lab.count(), 1);

    // One that would not be taken: no job is set.
    fs::remove_file(lab.0.path().join("share/two/sda.raw.gz")).unwrap();
    let refused = failed(&lab.host(&[&["set", "lab3-01,lab3-02", "restore"], &URL[..]].concat()));
    assert!(refused.contains("there is no image"), "{refused}");
    assert_eq!(lab.count(), 1);
    let none = failed(&lab.host(&[&["set", "lab9", "restore"], &URL[..]].concat()));
    assert!(none.contains("no machine is named lab9"), "{none}");
}

#[test]
fn several_machines_are_named_and_none_is_backed_up_into_anothers_folder() {
    let lab = Jobs::new();
    lab.does(&[&["set", "cardonly", "rescue"], &URL[..]].concat());
    // In one folder the later backup would take the place of the other's image, or fail.
    for action in ["backup", "backup-again"] {
        let one = failed(
            &lab.host(&[&["set", "lab3-01", "lab3-03", action, "--force"], &URL[..]].concat()),
        );
        assert!(
            one.contains("lab3-01 (192.168.1.101) and lab3-03 (192.168.1.103) would both be backed up into golden-lab3")
                && one.contains("--image '{hostname}'"),
            "{one}"
        );
        assert_eq!(lab.count(), 1);
    }
    let own = ["backup", "--image", "{hostname}"];
    lab.does(&[&["set", "lab3-01", "lab3-03"], &own[..], &URL].concat());
    assert_eq!(lab.count(), 3);

    // Several, each once; and all.
    assert_eq!(
        lab.does(&["list", "lab3-01", "192.168.1.101", "lab3-03"])
            .lines()
            .count(),
        3
    );
    assert_eq!(lab.does(&["list", "--all"]).lines().count(), 4);
    lab.does(&["clear", "192.168.1.101", "lab3-03", "lab3-01"]);
    assert_eq!(lab.count(), 1);
    let every = lab.does(&[&["set", "--all", "rescue"], &URL[..]].concat());
    assert!(every.contains("41 machines do: rescue"), "{every}");
    assert_eq!(lab.count(), 41);
    assert_eq!(lab.does(&["clear", "--all"]).lines().count(), 41);
    assert_eq!(lab.count(), 0);
}

#[test]
fn what_needs_no_settings_goes_on_without_the_file() {
    let lab = Jobs::new();
    // What needs no settings goes on without the file.
    lab.does(&[&["set", "192.168.1.102", "rescue"], &URL[..]].concat());
    lab.0.write("version = 2\n");
    let listed = lab.host(&["list", "192.168.1.102"]);
    assert_eq!(String::from_utf8_lossy(&listed.stdout).lines().count(), 2);
    let warning = String::from_utf8_lossy(&listed.stderr).into_owned();
    assert!(
        warning.starts_with("pitstop: warning: ") && warning.contains("line 1: version = 2"),
        "{warning}"
    );
    lab.does(&["clear", "192.168.1.102"]);
    assert_eq!(lab.count(), 0);
    assert!(failed(&lab.host(&["list", "lab3-01"])).contains("line 1: version = 2"));
    let broken = failed(&lab.host(&[&["set", "192.168.1.102", "restore"], &URL[..]].concat()));
    assert!(
        broken.contains("fleet.toml, line 1: version = 2"),
        "{broken}"
    );
    fs::remove_file(lab.0.path().join("fleet.toml")).unwrap();
    assert!(failed(&lab.host(&["clear", "--all"])).contains("--all and * are its machines"));
}
