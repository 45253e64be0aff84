// What a checkpoint declares of the activations that meet a weight, and of cached keys and values: how many bits, what shares a
// scale, and where the scale lies when calibration has chosen it. Formats/layouts.md, section 12.

package import SmeltStorage
internal import SmeltTensors

/// One scale for all tokens, as a checkpoint stores it.
package struct InputScale: Sendable, Hashable {
  /// The number in the file.
  package let stored: Float
  /// Whether codes are divided by it, as of compressed-tensors' NVFP4; else they are multiplied.
  package let divides: Bool

  /// A scale.
  package init(_ stored: Float, divides: Bool = false) { (self.stored, self.divides) = (stored, divides) }

  /// What codes are multiplied by: of a divisor the reciprocal, rounded to float32.
  package var multiplier: Float { divides ? 1 / stored : stored }

  /// The number as a layout stores it that divides, or does not; rounded once where the other way was stored.
  package func stored(divides wanted: Bool) -> Float { wanted == divides ? stored : 1 / stored }
}

/// How an engine rounds what it multiplies a weight with.
package struct DeclaredActivations: Sendable {
  /// The numbers of a token that share a scale.
  package enum Form: Sendable, Hashable {
    /// All of them, by the token's own largest magnitude.
    case token
    /// So many channels, by their own largest magnitude.
    case group(Int)
    /// So many channels under a power of two, as MXFP8 has them.
    case powers(Int)
    /// All numbers of all tokens: one scale that calibration chose, or, without one, that of the batch.
    case tensor
    /// 16 channels with an E4M3 scale that the engine chooses under one that calibration chose: NVFP4.
    case local
  }

  /// What shares a scale.
  package let form: Form
  /// E4M3 or E2M1; else whole numbers.
  package let isFloat: Bool
  /// The tensor with the scale, where one was chosen beforehand and is there.
  let scale: TensorInfo?
  /// The name of that tensor.
  package var scaleName: String? { scale?.name }
  /// Whether that scale divides.
  let divides: Bool
  /// The scale that the configuration promises and that is not there.
  private let missing: String?
  /// Why nobody can follow what the configuration says, where that is so; everything else means nothing then.
  package let fault: (any Error)?

  init(
    _ form: Form, isFloat: Bool = true, scale: TensorInfo? = nil, divides: Bool = false,
    missing: String? = nil
  ) {
    (self.form, self.isFloat, self.scale, self.divides) = (form, isFloat, scale, divides)
    self.missing = scale == nil ? missing : nil
    fault = nil
  }

  /// What cannot be followed.
  init(fault: any Error) {
    (form, isFloat, scale, divides, missing) = (.token, true, nil, false, nil)
    self.fault = fault
  }

  /// The scale that was chosen beforehand; nil where the engine chooses.
  /// - Throws: `Q_SCALE_MISSING` if the configuration declares a scale that is absent, `Q_SCALE_SHAPE` if it is not a single number,
  ///   `Q_SCALE_VALUE` if it is not positive and finite.
  package func inputScale() throws(FormatError) -> InputScale? {
    if let missing {
      throw FormatError(
        .scaleMissing, subject: missing,
        "is not there, and the configuration says that activations have this scale",
        help: "get the checkpoint anew, or say in its configuration that activations are dynamic")
    }
    return try scale.map { tensor throws(FormatError) in
      InputScale(try tensor.scaleNumber(), divides: divides)
    }
  }
}

extension TensorInfo {
  /// A single scale.
  /// - Throws: `Q_SCALE_SHAPE`, `Q_SCALE_VALUE`.
  package func scaleNumber() throws(FormatError) -> Float {
    guard shape.count == 1, [.f32, .bf16, .f16].contains(dtype) else {
      throw FormatError(
        .scaleShape, file: fileName, subject: name, offset: offset,
        "is \(dtype) \(shape), expected one F32, BF16 or F16")
    }
    let bits: (UInt32, UInt16) = bytes.withUnsafeBytes {
      // SAFETY: the tensor has the bytes of its shape and dtype, one number of four or of two
      dtype == .f32
        ? (UInt32(littleEndian: $0.loadUnaligned(as: UInt32.self)), 0)
        : (0, UInt16(littleEndian: $0.loadUnaligned(as: UInt16.self)))
    }
    let number =
      switch dtype {
      case .f32: Float(bitPattern: bits.0)
      case .bf16: Float(bitPattern: UInt32(bits.1) << 16)
      default: Float(Float16(bitPattern: bits.1))
      }
    guard number > 0, number.isFinite else {
      throw FormatError(
        .scaleValue, file: fileName, subject: name, offset: offset,
        "is \(number), expected a positive finite number")
    }
    return number
  }
}
