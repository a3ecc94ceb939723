//! `vlan=`, as dracut writes it (dracut.cmdline(7)): `vlan=NAME:PARENT`, where the number is in the name: `vlan5`,
//! `vlan0005`, `eth0.5`, `eth0.0005`. And shorter, for the card that booted: `vlan=5`.

/// A tagged network (IEEE 802.1Q) on a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vlan {
    /// 1 to 4094.
    pub id: u16,
    /// The interface's own name, and its card; by number alone any card will do.
    pub named: Option<(String, String)>,
}

impl Vlan {
    /// # Errors
    /// A sentence that says what is wrong with it.
    pub fn parse(value: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            format!("vlan={value}: {what}: write vlan=5, or vlan=NAME:CARD such as vlan=vlan5:eth0")
        };
        let Some((name, parent)) = value.split_once(':') else {
            let id = id(value).ok_or_else(|| wrong("it is not a number from 1 to 4094"))?;
            return Ok(Self { id, named: None });
        };
        if !is_interface(name) || !is_interface(parent) || name == parent {
            return Err(wrong("these are not two interface names"));
        }
        let number = name
            .rsplit_once('.')
            .map(|(_, number)| number)
            .or_else(|| name.strip_prefix("vlan"));
        let id = number
            .and_then(id)
            .ok_or_else(|| wrong("the name does not end in a number from 1 to 4094"))?;
        Ok(Self {
            id,
            named: Some((name.to_owned(), parent.to_owned())),
        })
    }

    /// What its interface on a card is called.
    pub fn name_on(&self, card: &str) -> String {
        if let Some((name, _)) = &self.named {
            return name.clone();
        }
        let number = format!(".{}", self.id);
        let kept = card.len().min(LONGEST - number.len());
        format!("{}{number}", card.get(..kept).unwrap_or("vlan"))
    }

    /// The only card that will do, where one is named, or where `interface` is this VLAN's on it.
    pub fn card(&self, interface: Option<&str>) -> Option<String> {
        match (&self.named, interface) {
            (Some((_, parent)), _) => Some(parent.clone()),
            (None, Some(interface)) => {
                let card = interface.strip_suffix(&format!(".{}", self.id));
                Some(card.unwrap_or(interface).to_owned())
            }
            (None, None) => None,
        }
    }
}

/// The kernel's `IFNAMSIZ`, less its zero byte.
const LONGEST: usize = 15;

/// 0 and 4095 are no networks (IEEE 802.1Q table 9-2).
fn id(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse().ok().filter(|_| digits)?;
    (1..=4094).contains(&id).then_some(id)
}

/// As the kernel has it (`dev_valid_name` in net/core/dev.c), and in plain letters.
pub fn is_interface(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':');
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(plain) && !matches!(name, "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn dracuts_names_and_a_number_alone_are_understood() {
        for name in ["vlan5", "vlan0005", "eth0.5", "eth0.0005"] {
            let vlan = Vlan::parse(&format!("{name}:eth0")).unwrap();
            assert_eq!((vlan.id, vlan.name_on("eth9").as_str()), (5, name));
            assert_eq!(vlan.card(Some(name)).as_deref(), Some("eth0"));
        }
        let vlan = Vlan::parse("4094").unwrap();
        assert_eq!(vlan.name_on("eth0"), "eth0.4094");
        assert_eq!(vlan.name_on("enp130s0f1np1x"), "enp130s0f1.4094");
        assert_eq!(vlan.card(None), None);
        assert_eq!(vlan.card(Some("eth1.4094")).as_deref(), Some("eth1"));
        assert_eq!(vlan.card(Some("eth1")).as_deref(), Some("eth1"));
    }

    #[test]
    fn nonsense_says_what_is_wrong() {
        for (value, why) in [
            ("", "not a number"),
            ("0", "not a number"),
            ("4095", "not a number"),
            ("+5", "not a number"),
            ("office:eth0", "does not end in a number"),
            ("vlan5:", "not two interface names"),
            ("eth0:eth0", "not two interface names"),
            ("a/b.5:eth0", "not two interface names"),
            ("averyveryverylong.5:eth0", "not two interface names"),
        ] {
            let error = Vlan::parse(value).unwrap_err();
            assert!(error.contains(why), "{value}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_its_interface_has_a_name(text in ".{0,20}", card in ".{0,20}") {
            if let Ok(vlan) = Vlan::parse(&text) {
                prop_assert!((1..=LONGEST).contains(&vlan.name_on(&card).len()));
            }
        }
    }
}
