//! The E-model: from delay, codec and loss to a rating R and a MOS (ITU-T G.107, wide band G.107.1).

/// Which scale a rating and a MOS are on; figures of different scales cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Scale {
    /// Narrow band, R of 0–100 (ITU-T G.107).
    NarrowBand,
    /// Wide band, R of 0–129 (ITU-T G.107.1).
    WideBand,
}

impl Scale {
    /// The name that events and tables print: `G.107` or `G.107.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scale::NarrowBand => "G.107",
            Scale::WideBand => "G.107.1",
        }
    }

    /// R of a connection without delay, loss and coding, with all defaults.
    fn best(self) -> f64 {
        match self {
            Scale::NarrowBand => 93.2,
            Scale::WideBand => 129.0,
        }
    }
}

/// How a codec bears loss: the figures of ITU-T G.113 for one codec on one scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Impairment {
    /// The scale of the two figures.
    pub scale: Scale,
    /// Equipment impairment without loss (Ie, or Ie,WB).
    pub ie: f64,
    /// Packet-loss robustness (Bpl): the loss in per cent at which half of what can be lost is lost.
    pub bpl: f64,
}

impl Impairment {
    /// G.711 with concealment (G.113 Appendix I).
    pub const G711: Impairment = Impairment { scale: Scale::NarrowBand, ie: 0.0, bpl: 25.1 };
    /// G.722 at 64 kbit/s (G.113 Appendix IV); Bpl is that of waveform coding with simple concealment.
    pub const G722: Impairment = Impairment { scale: Scale::WideBand, ie: 13.0, bpl: 10.0 };
    /// Opus, wide band speech from 20 kbit/s. G.113 has no row for it; these follow EVS-like coders
    /// with concealment and are rough by a few points of R.
    pub const OPUS: Impairment = Impairment { scale: Scale::WideBand, ie: 10.0, bpl: 20.0 };
}

/// What the network and the jitter buffer did to the voice.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Conditions {
    /// One-way delay from mouth to ear, in milliseconds.
    pub delay_ms: f64,
    /// Audio that had to be concealed, in per cent: loss of the network and packets that came too late.
    pub loss_percent: f64,
    /// Mean length of the bursts over that of random loss (BurstR of G.107 §7.3); 1 for random loss.
    pub burst_ratio: f64,
}

/// A rating and what it means to listeners, with the name of its scale.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rating {
    /// The scale of `r` and `mos`.
    pub scale: Scale,
    /// Transmission rating factor R.
    pub r: f64,
    /// Mean opinion score, 1.0 to 4.5 (MOS-CQE).
    pub mos: f64,
}

/// The rating of a connection with everything but delay, codec and loss at the defaults of G.107 Table 2.
pub fn rate(codec: Impairment, conditions: Conditions) -> Rating {
    let loss = finite(conditions.loss_percent).clamp(0.0, 100.0);
    let burst = finite(conditions.burst_ratio).max(1.0);
    let delay = finite(conditions.delay_ms).clamp(0.0, 10_000.0);
    let ceiling = 95.0;
    let lost = if loss > 0.0 { (ceiling - codec.ie) * loss / (loss / burst + codec.bpl) } else { 0.0 };
    let equipment = (codec.ie + lost).min(ceiling.max(codec.ie));
    let r = (codec.scale.best() - delay_impairment(delay) - equipment).max(0.0);
    Rating { scale: codec.scale, r, mos: mos(codec.scale, r) }
}

fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}

/// Idd, the impairment by absolute delay without echo (G.107 §7.5, default sensitivity).
fn delay_impairment(delay_ms: f64) -> f64 {
    if delay_ms <= 100.0 {
        return 0.0;
    }
    let x = (delay_ms / 100.0).log2();
    25.0 * ((1.0 + x.powi(6)).powf(1.0 / 6.0) - 3.0 * (1.0 + (x / 3.0).powi(6)).powf(1.0 / 6.0) + 2.0)
}

/// R to MOS (G.107 Annex B); the wide-band R is brought to the narrow-band range first (G.107.1 §7.6).
fn mos(scale: Scale, r: f64) -> f64 {
    let r = match scale {
        Scale::NarrowBand => r,
        Scale::WideBand => r / 1.29,
    };
    if r <= 0.0 {
        1.0
    } else if r >= 100.0 {
        4.5
    } else {
        (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7.0e-6).clamp(1.0, 4.5)
    }
}

/// BurstR of G.107 §7.3 from counts: `lost` packets in `bursts` runs among `expected` packets.
pub fn burst_ratio(lost: u64, bursts: u64, expected: u64) -> f64 {
    if lost == 0 || bursts == 0 || lost >= expected {
        return 1.0;
    }
    let mean_run = lost as f64 / bursts as f64;
    let random_run = 1.0 / (1.0 - lost as f64 / expected as f64);
    (mean_run / random_run).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rated(codec: Impairment, delay_ms: f64, loss_percent: f64, burst_ratio: f64) -> Rating {
        rate(codec, Conditions { delay_ms, loss_percent, burst_ratio })
    }

    #[test]
    fn a_perfect_narrow_band_call_has_the_default_rating() {
        let rating = rated(Impairment::G711, 0.0, 0.0, 1.0);
        assert_eq!(rating.scale.as_str(), "G.107");
        assert!((rating.r - 93.2).abs() < 1e-9);
        assert!((rating.mos - 4.41).abs() < 0.005, "{}", rating.mos);
    }

    #[test]
    fn wide_band_is_on_its_own_scale() {
        let rating = rated(Impairment::G722, 0.0, 0.0, 1.0);
        assert_eq!(rating.scale.as_str(), "G.107.1");
        assert!((rating.r - 116.0).abs() < 1e-9);
        assert!((rating.mos - 4.337).abs() < 0.005, "{}", rating.mos);
    }

    #[test]
    fn loss_delay_and_bursts_each_cost() {
        let clean = rated(Impairment::G711, 0.0, 0.0, 1.0).r;
        let one = rated(Impairment::G711, 0.0, 1.0, 1.0).r;
        assert!((clean - one - 95.0 / 26.1).abs() < 1e-9);
        assert!(rated(Impairment::G711, 0.0, 5.0, 3.0).r < rated(Impairment::G711, 0.0, 5.0, 1.0).r);
        assert_eq!(rated(Impairment::G711, 100.0, 0.0, 1.0).r, clean);
        let slow = clean - rated(Impairment::G711, 400.0, 0.0, 1.0).r;
        assert!((slow - 24.2).abs() < 1.0, "Idd at 400 ms is about 24, not {slow}");
    }

    #[test]
    fn nothing_outside_the_range_comes_out() {
        for loss in [-5.0, 0.0, 50.0, 100.0, f64::NAN, f64::INFINITY] {
            for delay in [-1.0, 0.0, 5_000.0, f64::NAN] {
                for burst in [0.0, 1.0, 100.0, f64::NAN] {
                    let rating = rated(Impairment::OPUS, delay, loss, burst);
                    assert!((1.0..=4.5).contains(&rating.mos) && rating.r >= 0.0, "{rating:?}");
                }
            }
        }
    }

    #[test]
    fn burst_ratio_is_one_for_random_loss() {
        assert_eq!(burst_ratio(0, 0, 1000), 1.0);
        assert!((burst_ratio(100, 90, 1000) - 1.0).abs() < 0.01);
        assert!((burst_ratio(100, 25, 1000) - 3.6).abs() < 0.01);
        assert_eq!(burst_ratio(1000, 1, 1000), 1.0);
    }
}
