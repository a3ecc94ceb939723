//! Which images of a disk stay. Pure: images in, fates out.

use crate::images::made;
use jiff::Zoned;
use jiff::tz::TimeZone;
use pitstop_api::Image;
use pitstop_protocol::image_version::{Version, split};

/// How many images of a disk stay.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Keep {
    /// The last N, the one that a restore takes among them
    #[arg(long = "keep-last", value_name = "N")]
    last: Option<usize>,
    /// The newest of each of the last N days that have one
    #[arg(long = "keep-daily", value_name = "N")]
    daily: Option<usize>,
    /// The newest of each of the last N weeks that have one
    #[arg(long = "keep-weekly", value_name = "N")]
    weekly: Option<usize>,
    /// The newest of each of the last N months that have one
    #[arg(long = "keep-monthly", value_name = "N")]
    monthly: Option<usize>,
    /// The newest of each of the last N years that have one
    #[arg(long = "keep-yearly", value_name = "N")]
    yearly: Option<usize>,
}

/// What becomes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    Kept(String),
    Removed,
}

/// An image and what becomes of it.
pub struct Judged<'a> {
    pub image: &'a Image,
    pub fate: Fate,
}

/// What becomes of the images of one disk; the newest first.
pub fn judge<'a>(
    mut images: Vec<&'a Image>,
    keep: &Keep,
    busy: Option<&str>,
    zone: &TimeZone,
) -> Vec<Judged<'a>> {
    images.sort_by_key(|image| std::cmp::Reverse((is_last(image), made(image))));
    let mut times: Vec<Option<Zoned>> = Vec::new();
    for image in &images {
        times.push(made(image).map(|made| made.to_zoned(zone.clone())));
    }
    let reasons = reasons(&times, keep);
    let judged = images.iter().zip(reasons).enumerate();
    judged
        .map(|(at, (&image, reason))| {
            let fate = match (busy, reason) {
                // Where the last one is missing, the newest stands for it.
                _ if is_last(image) || at == 0 => Fate::Kept("the last".into()),
                (_, Some(reason)) => Fate::Kept(reason),
                (Some(busy), None) => Fate::Kept(busy.to_owned()),
                (None, None) => Fate::Removed,
            };
            Judged { image, fate }
        })
        .collect()
}

fn is_last(image: &Image) -> bool {
    split(&image.path).1 == Version::Last
}

/// Why each of these stays, newest first; `None` of what nobody asked to keep. What tells no time stays.
fn reasons(times: &[Option<Zoned>], keep: &Keep) -> Vec<Option<String>> {
    let mut reasons: Vec<Option<String>> = times
        .iter()
        .map(|time| {
            time.is_none()
                .then(|| "nothing tells when it was made".to_owned())
        })
        .collect();
    for reason in reasons.iter_mut().take(keep.last.unwrap_or(0)) {
        reason.get_or_insert_with(|| format!("of the last {}", keep.last.unwrap_or(0)));
    }
    let periods = [
        (keep.daily, "day", "%Y-%m-%d"),
        (keep.weekly, "week", "%G-W%V"),
        (keep.monthly, "month", "%Y-%m"),
        (keep.yearly, "year", "%Y"),
    ];
    for (count, name, format) in periods {
        let mut seen: Vec<String> = Vec::new();
        for (time, reason) in times.iter().zip(&mut reasons) {
            let Some(time) = time else { continue };
            let period = time.strftime(format).to_string();
            if seen.len() >= count.unwrap_or(0) || seen.contains(&period) {
                continue;
            }
            reason.get_or_insert_with(|| format!("of the {name} {period}"));
            seen.push(period);
        }
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn image(path: &str, made: &str) -> Image {
        Image {
            path: path.into(),
            folder: "m".into(),
            created: made.parse().ok(),
            ..Image::default()
        }
    }

    fn removed(images: &[Image], keep: Keep, busy: Option<&str>) -> Vec<String> {
        let judged = judge(images.iter().collect(), &keep, busy, &TimeZone::UTC);
        judged
            .iter()
            .filter(|judged| judged.fate == Fate::Removed)
            .map(|judged| judged.image.path.clone())
            .collect()
    }

    fn history() -> Vec<Image> {
        [
            ("m/sda.raw.gz.20260901T000000Z", "2026-09-01T00:00:00Z"),
            ("m/sda.raw.gz.20261005T000000Z", "2026-10-05T00:00:00Z"),
            ("m/sda.raw.gz.20261020T000000Z", "2026-10-20T00:00:00Z"),
            ("m/sda.raw.gz.20261101T000000Z", "2026-11-01T00:00:00Z"),
            ("m/sda.raw.gz.old", "2026-11-10T00:00:00Z"),
            ("m/sda.raw.gz", "2026-11-20T00:00:00Z"),
        ]
        .map(|(path, made)| image(path, made))
        .to_vec()
    }

    #[test]
    fn as_many_stay_as_are_asked_for() {
        let keep = |last, monthly| Keep {
            last,
            monthly,
            ..Keep::default()
        };
        let all = history();
        assert_eq!(
            removed(&all, keep(Some(2), Some(2)), None),
            [
                "m/sda.raw.gz.20261101T000000Z",
                "m/sda.raw.gz.20261005T000000Z",
                "m/sda.raw.gz.20260901T000000Z"
            ]
        );
        assert_eq!(removed(&all, keep(Some(6), None), None), [""; 0]);
        assert_eq!(removed(&all, keep(Some(0), None), None).len(), 5);
        assert_eq!(removed(&all, keep(Some(1), None), Some("busy")), [""; 0]);
        // The last one stays though a clock was wrong.
        let mut odd = history();
        odd[5].created = "2001-01-01T00:00:00Z".parse().ok();
        let gone = removed(&odd, keep(Some(1), None), None);
        assert!(!gone.contains(&"m/sda.raw.gz".to_owned()), "{gone:?}");
        // Where there is no last one, the newest is not removed either.
        let gone = removed(&all[..5], keep(Some(0), None), None);
        assert!(!gone.contains(&"m/sda.raw.gz.old".to_owned()), "{gone:?}");
        let nameless = [image("m/a.raw.gz", "x"), image("m/a.raw.gz.old", "x")];
        assert_eq!(removed(&nameless, keep(Some(1), None), None), [""; 0]);
    }

    proptest! {
        #[test]
        fn never_all_and_never_the_last(
            seconds in prop::collection::vec(1_700_000_000i64..1_800_000_000, 1..30),
            counts in prop::collection::vec(prop::option::of(0usize..5), 5),
            has_last: bool,
        ) {
            let mut images: Vec<Image> = seconds
                .iter()
                .map(|second| {
                    let made = Timestamp::from_second(*second).unwrap();
                    image(&pitstop_protocol::image_version::dated("m/sda.raw.gz", made), &made.to_string())
                })
                .collect();
            if has_last {
                images.push(image("m/sda.raw.gz", "2020-01-01T00:00:00Z"));
            }
            let keep = Keep {
                last: counts[0],
                daily: counts[1],
                weekly: counts[2],
                monthly: counts[3],
                yearly: counts[4],
            };
            let gone = removed(&images, keep, None);
            prop_assert!(gone.len() < images.len());
            prop_assert!(!gone.contains(&"m/sda.raw.gz".to_owned()));
            let left = images.len() - gone.len();
            prop_assert!(left >= counts[0].unwrap_or(0).min(images.len()));
        }
    }
}
