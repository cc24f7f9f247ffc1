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

    /// The value at 0 of the polynomial through the shares (Lagrange).
    fn combine(shares: &[&[u8]]) -> Vec<u8> {
        let inverse = |a: u8| (1..=255).find(|b| multiply(a, *b) == 1).unwrap();
        let length = shares[0].len() - 1;
        (0..length)
            .map(|index| {
                shares.iter().fold(0, |sum, share| {
                    let x = share[length];
                    let others = shares.iter().map(|other| other[length]).filter(|other| *other != x);
                    let factor =
                        others.fold(1, |product, other| multiply(product, multiply(other, inverse(other ^ x))));
                    sum ^ multiply(share[index], factor)
                })
            })
            .collect()
    }

    fn secret() -> SecretBytes {
        SecretBytes::new((0..32).collect())
    }

    #[test]
    fn the_field_is_that_of_polynomial_11b() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x80, 2), 0x1b);
        for a in 0..=255 {
            assert_eq!((multiply(a, 1), multiply(1, a), multiply(a, 0)), (a, a, 0));
        }
    }

    #[test]
    fn known_shares_give_their_secret() {
        let first = [&[0x99; 32][..], &[1]].concat();
        let second = hex::decode("a3a6a9acb7b2bdb88b8e81849f9a9590f3f6f9fce7e2ede8dbded1d4cfcac5c002").unwrap();
        let last = hex::decode("9d8fb9abd5c7f1e30d1f293b45576173a6b48290eefccad8362412007e6c5a48ff").unwrap();
        assert_eq!(combine(&[&first, &second, &last]), secret().expose());
    }

    #[test]
    fn any_threshold_of_the_shares_gives_the_secret_and_fewer_do_not() {
        for (threshold, count) in [(2, 3), (3, 5), (4, 5)] {
            let shares = split(&secret(), threshold, count).unwrap();
            let shares: Vec<&[u8]> = shares.iter().map(SecretBytes::expose).collect();
            for chosen in 0_u32..1 << count {
                let some: Vec<&[u8]> = (0..count).filter(|bit| chosen >> bit & 1 == 1).map(|bit| shares[bit]).collect();
                if !some.is_empty() {
                    let enough = some.len() >= usize::from(threshold);
                    assert_eq!(combine(&some) == secret().expose(), enough, "{} of {threshold}", some.len());
                }
            }
        }
    }

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
