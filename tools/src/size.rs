//! A number of bytes, as it is typed.

const UNITS: [char; 4] = ['k', 'm', 'g', 't'];

/// A number of bytes: `4096`, `10K`, `64MiB`. The units are powers of 1024, as those of `ls -h` and `du` are.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of bytes (4096, 10K, 64MiB, 2G: powers of 1024)");
    let lower = text.to_lowercase();
    let at = lower.find(|one: char| !one.is_ascii_digit()).unwrap_or(lower.len());
    let (number, unit) = lower.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.trim_start();
    let unit =
        unit.strip_suffix("ib").filter(|unit| !unit.is_empty()).or(unit.strip_suffix('b')).unwrap_or(unit);
    let mut letters = unit.chars();
    let power = match (letters.next(), letters.next()) {
        (None, _) => 0,
        (Some(letter), None) => 1 + UNITS.iter().position(|one| *one == letter).ok_or_else(wrong)?,
        _ => return Err(wrong()),
    };
    let factor = u32::try_from(power).ok().and_then(|power| 1024_u64.checked_pow(power));
    factor.and_then(|factor| number.checked_mul(factor)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_size_has_a_unit_or_none() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("12b", 12),
            ("10K", 10 << 10),
            ("10kb", 10 << 10),
            ("64MiB", 64 << 20),
            ("2 G", 2 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(super::bytes(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "K", "-1", "10X", "10KK", "10iB", "99999999999T", "1.5G"] {
            assert!(super::bytes(wrong).unwrap_err().contains("64MiB"), "{wrong}");
        }
    }
}
