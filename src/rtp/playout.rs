//! The words between the jitter buffer and whoever decodes and plays: what comes in, what is to be done, what was
//! counted.

/// How a buffer is set up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// The most delay over the fastest packet, in microseconds; more is cut off.
    pub ceiling_us: u32,
    /// Delay before anything is known of the path, in microseconds.
    pub start_us: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { ceiling_us: 400_000, start_us: 60_000 }
    }
}

/// What kind of payload a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Voice.
    Voice {
        /// It may carry a redundant copy of the packet before it (Opus in-band FEC, RFC 6716 §2.1.7).
        redundant: bool,
    },
    /// A description of comfort noise (RFC 3389): silence begins or goes on.
    Noise,
}

/// A packet as it comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival<'a> {
    /// When it arrived, on the monotonic clock in microseconds.
    pub at_us: u64,
    /// Its sequence number.
    pub sequence: u16,
    /// Its time stamp, in units of `clock_rate`.
    pub timestamp: u32,
    /// Clock rate of its payload type, in Hz.
    pub clock_rate: u32,
    /// How much media it holds, in units of `clock_rate`.
    pub duration: u32,
    /// Its payload type.
    pub payload_type: u8,
    /// What it carries.
    pub kind: Kind,
    /// Its payload, [`super::packet::MAX_PACKET`] bytes at most.
    pub payload: &'a [u8],
}

/// What became of a packet that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// It waits for its turn.
    Stored,
    /// Its turn is over.
    Late,
    /// It is there already, or was.
    Duplicate,
    /// It is too long or holds no media.
    Unusable,
}

/// What to do for the next piece of media.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pull<'a> {
    /// Decode this packet.
    Packet {
        /// Its payload type.
        payload_type: u8,
        /// Its payload.
        payload: &'a [u8],
        /// How much media it holds, in microseconds.
        duration_us: u32,
        /// How much of its beginning has been concealed already and is to be dropped after decoding, in
        /// microseconds.
        skip_us: u32,
    },
    /// The packet before this one is lost: decode the redundant copy that this payload may carry, or conceal if it
    /// has none. The packet itself is pulled next.
    Fec {
        /// Payload type of the packet that follows the lost one.
        payload_type: u8,
        /// Its payload.
        payload: &'a [u8],
        /// How much media is missing, in microseconds.
        duration_us: u32,
        /// How much of its beginning has been concealed already, as in [`Pull::Packet`].
        skip_us: u32,
    },
    /// Invent so much sound from what was before.
    Conceal {
        /// How much, in microseconds.
        duration_us: u32,
    },
    /// The sender is silent: comfort noise for one period, as it was described last (RFC 3389), or as the decoder makes
    /// it of its own when a packet is missing (Opus), or silence.
    Comfort {
        /// A new description of the noise (RFC 3389), if one is due.
        noise: Option<&'a [u8]>,
        /// How much, in microseconds.
        duration_us: u32,
    },
    /// Nothing has come yet, or key presses took the place of the voice: silence for one period.
    Nothing,
}

/// What the buffer wishes for the sound that has been decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rate {
    /// Leave it as it is.
    Normal,
    /// Shorten it: the delay is above the target by `by_us` microseconds.
    Shrink {
        /// How much there is to lose. Cutting more would be taken back by a wish to stretch: better leave the piece.
        by_us: u32,
    },
    /// Lengthen it: the delay is below the target by `by_us` microseconds.
    Stretch {
        /// How much there is to gain.
        by_us: u32,
    },
}

/// Counts since the buffer was made. Times are of media, in microseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Media given out as packets.
    pub played_us: u64,
    /// Media that had to be concealed: lost, or not there in time. Silence of the sender is not in it.
    pub concealed_us: u64,
    /// Media for which a redundant copy was pointed to.
    pub recovered_us: u64,
    /// Media cut off because the delay exceeded the ceiling.
    pub cut_us: u64,
    /// Packets that came after their turn.
    pub late: u64,
    /// Packets dropped because the ceiling was exceeded or all places were taken.
    pub discarded: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Times the sender's time stamps leapt.
    pub leaps: u64,
    /// Packets played, and the sum of the time from arrival to playing in microseconds: their mean is the delay.
    pub played: u64,
    /// See `played`.
    pub waited_us: u64,
}
