//! Search results for other programs: CSV and JSON.

use pitstop_api::inventory::{InventoryList, InventoryRow};

const HEAD: [&str; 22] = [
    "name",
    "groups",
    "address",
    "mac",
    "uuid",
    "serial",
    "vendor",
    "model",
    "cpu",
    "cores",
    "ram",
    "firmware",
    "secure-boot",
    "disks",
    "disk-bytes",
    "disks-text",
    "health",
    "seen",
    "last-action",
    "last-result",
    "last-when",
    "last-reason",
];

/// RFC 4180: a head, then a line for each machine.
pub fn csv(list: &InventoryList) -> String {
    let mut text = line(&HEAD.map(str::to_owned));
    for row in &list.machines {
        text.push_str(&line(&fields(row)));
    }
    text
}

fn fields(row: &InventoryRow) -> [String; 22] {
    let number = |number: u64| match number {
        0 => String::new(),
        known => known.to_string(),
    };
    let last = row.last.clone().unwrap_or_default();
    [
        row.name.clone(),
        row.groups.join(" "),
        row.address.clone(),
        row.mac.clone(),
        row.uuid.clone(),
        row.serial.clone(),
        row.vendor.clone(),
        row.model.clone(),
        row.cpu.clone(),
        number(row.cores.into()),
        number(row.ram),
        row.firmware.as_str().to_owned(),
        row.secure_boot.as_str().to_owned(),
        row.disks.to_string(),
        row.disk_bytes.to_string(),
        row.disks_text.clone(),
        row.health.as_str().to_owned(),
        row.seen.clone(),
        last.action,
        last.result,
        last.when,
        last.reason,
    ]
}

fn line(fields: &[String]) -> String {
    let fields: Vec<String> = fields.iter().map(|text| field(text)).collect();
    fields.join(",") + "\r\n"
}

/// A table program takes what begins like a formula for one, and would run it: an apostrophe makes it a text. A disk's model
/// is what the disk says.
fn field(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let guarded = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    if guarded.contains(['"', ',', '\r', '\n']) {
        return format!("\"{}\"", guarded.replace('"', "\"\""));
    }
    guarded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_machine_and_formulas_are_texts() {
        let row = InventoryRow {
            name: "lab3-01".into(),
            model: "=HYPERLINK(\"http://x\",\"y\")".into(),
            serial: "-1".into(),
            vendor: "A, B".into(),
            ..InventoryRow::default()
        };
        let list = InventoryList {
            machines: vec![row],
            ..InventoryList::default()
        };
        let text = csv(&list);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("name,groups,address,"));
        assert!(
            lines[1].starts_with(
                "lab3-01,,,,,'-1,\"A, B\",\"'=HYPERLINK(\"\"http://x\"\",\"\"y\"\")\","
            )
        );
    }
}
