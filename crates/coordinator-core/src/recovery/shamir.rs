//! Shamir's secret sharing, byte by byte over GF(2^8) with the polynomial 0x11B.
//!
//! A. Shamir, "How to Share a Secret", CACM 22 (1979). Field and form of a share are those on paper in existing
//! deployments: the values for all bytes, then x. Libraries with another polynomial make shares that do not fit.

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use marblerun_secret::SecretBytes;
use zeroize::Zeroizing;

/// Each share has its own non-zero element of the field.
pub(super) const MAX_SHARES: usize = 255;

/// Makes `shares` shares, at most [`MAX_SHARES`], any `threshold` of which give `secret`.
///
/// # Errors
///
/// Without random numbers.
pub(super) fn split(secret: &SecretBytes, threshold: u8, shares: usize) -> Result<Vec<SecretBytes>, Unspecified> {
    let random = SystemRandom::new();
    // One polynomial per byte of the secret. Here are all its coefficients but the constant one, which is the secret.
    let degree = usize::from(threshold.saturating_sub(1));
    let mut coefficients = Zeroizing::new(vec![0; degree * secret.len()]);
    random.fill(&mut coefficients)?;
    let abscissas = abscissas(&random)?;
    let share = |x: &u8| {
        let mut bytes: Vec<u8> = (0..secret.len())
            .map(|index| {
                let of_byte = coefficients.iter().skip(index).step_by(secret.len());
                multiply(of_byte.fold(0, |sum, coefficient| multiply(sum, *x) ^ coefficient), *x)
                    ^ secret.expose()[index]
            })
            .collect();
        bytes.push(*x);
        SecretBytes::new(bytes)
    };
    Ok(abscissas.iter().take(shares).map(share).collect())
}

/// The secret that [`split`] made `shares` of, if there are as many as the threshold; something else if there are fewer.
///
/// `None` if they cannot be shares of one secret: of another length, or without places of their own that are not 0.
pub(super) fn combine(shares: &[&SecretBytes]) -> Option<SecretBytes> {
    let points = shares.iter().map(|share| share.expose().split_last()).collect::<Option<Vec<_>>>()?;
    let length = points.first()?.1.len();
    let mut secret = Zeroizing::new(vec![0; length]);
    for (number, (x, values)) in points.iter().enumerate() {
        let repeats = points.iter().take(number).any(|(other, _)| other == x);
        if **x == 0 || repeats || values.len() != length {
            return None;
        }
        // Lagrange's factor of this point at 0. In this field, subtraction is addition.
        let others = points.iter().enumerate().filter(|(other, _)| *other != number).map(|(_, (other, _))| **other);
        let factor = others.fold(1, |product, other| multiply(product, multiply(other, inverse(other ^ **x))));
        for (byte, value) in secret.iter_mut().zip(*values) {
            *byte ^= multiply(*value, factor);
        }
    }
    Some(SecretBytes::copy_from(&secret))
}

/// The inverse of a non-zero element: its 254th power, in constant time.
fn inverse(a: u8) -> u8 {
    // 254 = 2 + 4 + ... + 128.
    let (mut power, mut product) = (a, 1);
    for _ in 0..7 {
        power = multiply(power, power);
        product = multiply(product, power);
    }
    product
}

/// All non-zero elements in random order.
fn abscissas(random: &SystemRandom) -> Result<[u8; MAX_SHARES], Unspecified> {
    let mut all = [0; MAX_SHARES];
    all.iter_mut().zip(1..=u8::MAX).for_each(|(element, number)| *element = number);
    for last in (1..MAX_SHARES).rev() {
        all.swap(last, below(last + 1, random)?);
    }
    Ok(all)
}

/// A uniform number below `limit`, which is at most 256.
fn below(limit: usize, random: &SystemRandom) -> Result<usize, Unspecified> {
    // Bytes from an incomplete last round would prefer small numbers.
    let rounds = 256 / limit * limit;
    loop {
        let mut byte = [0];
        random.fill(&mut byte)?;
        if usize::from(byte[0]) < rounds {
            return Ok(usize::from(byte[0]) % limit);
        }
    }
}

/// Multiplication in the field; its time does not depend on the factors.
fn multiply(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    for _ in 0..8 {
        product ^= a & (b & 1).wrapping_neg();
        a = (a << 1) ^ (0x1b & (a >> 7).wrapping_neg());
        b >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn secret() -> SecretBytes {
        SecretBytes::new((0..32).collect())
    }

    // rules: STA-3.2
    #[test]
    fn the_field_is_that_of_polynomial_11b() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x80, 2), 0x1b);
        for a in 0..=255 {
            assert_eq!((multiply(a, 1), multiply(1, a), multiply(a, 0)), (a, a, 0));
            assert_eq!(multiply(a, inverse(a)), u8::from(a != 0));
        }
    }

    // rules: STA-3.2
    #[test]
    fn known_shares_give_their_secret() {
        let share = |text| SecretBytes::new(hex::decode(text).unwrap());
        let first = SecretBytes::new([&[0x99; 32][..], &[1]].concat());
        let second = share("a3a6a9acb7b2bdb88b8e81849f9a9590f3f6f9fce7e2ede8dbded1d4cfcac5c002");
        let last = share("9d8fb9abd5c7f1e30d1f293b45576173a6b48290eefccad8362412007e6c5a48ff");
        assert_eq!(combine(&[&first, &second, &last]).unwrap().expose(), secret().expose());
    }

    // rules: STA-3.11
    #[test]
    fn shares_that_cannot_be_of_one_secret_are_refused() {
        let share = |bytes: &[u8]| SecretBytes::copy_from(bytes);
        let check = |shares: &[&[u8]], combines: bool| {
            let shares: Vec<SecretBytes> = shares.iter().map(|bytes| share(bytes)).collect();
            assert_eq!(combine(&shares.iter().collect::<Vec<_>>()).is_some(), combines, "{shares:?}");
        };
        check(&[&[1, 1], &[2, 2]], true);
        check(&[&[1, 0], &[2, 2]], false);
        check(&[&[1, 1], &[2, 0]], false);
        check(&[&[1, 2], &[2, 2]], false);
        check(&[&[1, 1], &[2, 2, 2]], false);
        check(&[&[1, 1], &[]], false);
        check(&[], false);
    }

    #[test]
    fn any_threshold_of_the_shares_gives_the_secret_and_fewer_do_not() {
        for (threshold, count) in [(2, 3), (3, 5), (4, 5)] {
            let shares = split(&secret(), threshold, count).unwrap();
            for chosen in 0_u32..1 << count {
                let some: Vec<_> = (0..count).filter(|bit| chosen >> bit & 1 == 1).map(|bit| &shares[bit]).collect();
                if !some.is_empty() {
                    let enough = some.len() >= usize::from(threshold);
                    assert_eq!(
                        combine(&some).unwrap().expose() == secret().expose(),
                        enough,
                        "{} of {threshold}",
                        some.len()
                    );
                }
            }
        }
    }

    // rules: STA-3.11
    #[test]
    fn each_share_has_its_own_place_and_never_that_of_the_secret() {
        let shares = split(&secret(), 2, MAX_SHARES).unwrap();
        let places: BTreeSet<u8> = shares.iter().map(|share| share.expose()[32]).collect();
        assert_eq!(places, (1..=255).collect());
        assert!(shares.iter().all(|share| share.len() == 33));
    }

    #[test]
    fn places_are_in_another_order_each_time() {
        let order = || abscissas(&SystemRandom::new()).unwrap();
        assert_ne!(order(), order());
    }
}
