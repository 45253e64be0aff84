// Floats into GGUF's blocks. Formats/encodings.md, sections 20 and 21: ggml's own bytes for the blocks of one scale, and
// Smelt's own search for those whose scales are a choice.

internal import CKernels

/// What encoding some blocks came to.
package enum BlockOutcome: Sendable, Hashable {
  /// All are written; so many values are read back as another number, -0 counting as +0.
  case stored(inexact: Int)
  /// This block has a value whose scale is beyond F16 (65,504), or beyond 448 for `nvfp4.gguf`. It and those after it
  /// are not written.
  case beyondRange(block: Int)
}

extension GGUFBlock {
  /// Whether there is an encoder for the type.
  package var isEncodable: Bool { encoder != nil }

  /// Encodes `count` finite floats, a whole number of blocks, to `count / elements × bytes` bytes.
  ///
  /// - Parameter weights: how much the square error of each of these columns counts, 0…1; nil: all alike. Types
  ///   without a choice of scales do not look at them. A group whose weights are all 0 is treated as one without.
  package func encode(
    _ values: UnsafePointer<Float>, count: Int, weights: UnsafePointer<Float>? = nil,
    into out: UnsafeMutablePointer<UInt8>
  ) -> BlockOutcome {
    // SAFETY: `values` and `weights` must hold `count` floats, `out` have room for the blocks' bytes. A block that is not whole would
    // be read and written beyond them, so the number is checked.
    guard let encoder else { preconditionFailure("\(name) has no encoder") }
    precondition(count % elements == 0, "\(count) floats are not a whole number of blocks")
    let result = encoder(values, weights, out, count)
    return result < 0 ? .beyondRange(block: Int(-1 - result)) : .stored(inexact: Int(result))
  }

  private typealias Encoder = (
    UnsafePointer<Float>?, UnsafePointer<Float>?, UnsafeMutablePointer<UInt8>?, Int
  ) -> Int64

  private var encoder: Encoder? {
    switch kind {
    case .q8_0: sk_encode_q8_0
    case .q4_0: sk_encode_q4_0
    case .q4_1: sk_encode_q4_1
    case .q5_0: sk_encode_q5_0
    case .q5_1: sk_encode_q5_1
    case .q1_0: sk_encode_q1_0
    case .q2_0: sk_encode_q2_0
    case .q2_k: sk_encode_q2_k
    case .q3_k: sk_encode_q3_k
    case .q4_k: sk_encode_q4_k
    case .q5_k: sk_encode_q5_k
    case .q6_k: sk_encode_q6_k
    case .iq4_nl: sk_encode_iq4_nl
    case .iq4_xs: sk_encode_iq4_xs
    case .tq1_0: sk_encode_tq1_0
    case .tq2_0: sk_encode_tq2_0
    case .mxfp4: sk_encode_mxfp4_gguf
    case .nvfp4: sk_encode_nvfp4_gguf
    case .q8_1, .q8_k, .iq1_s, .iq1_m, .iq2_xxs, .iq2_xs, .iq2_s, .iq3_xxs, .iq3_s: nil
    }
  }
}
