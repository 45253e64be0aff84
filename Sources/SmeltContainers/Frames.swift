// How one chunk of content becomes stored bytes and back: byte planes, zstd, and the choice X

internal import CKernels
public import SmeltStorage
public import SmeltTensors

/// How much an ingot's writer compresses.
public enum Compression: String, Sendable, CaseIterable {
  /// Every frame is stored raw and lent from the mapping.
  case none
  /// Each frame is stored the way that a trial makes smallest, with a bias to raw.
  case auto
}

/// Whether a frame's bytes are content or zstd frames. Formats/ingot.md, 4.5.
public enum FrameStorage: UInt8, Sendable, Hashable, CaseIterable {
  /// The content itself, lent from the mapping.
  case raw = 0
  /// One zstd frame a chunk.
  case zstd = 1
}

/// What is done to a chunk before it is compressed. Formats/ingot.md, 3.4.
public enum FrameTransform: UInt8, Sendable, Hashable, CaseIterable {
  /// Nothing.
  case none = 0
  /// BF16: a plane of exponents, then a plane of mantissas with signs.
  case split16Rotate = 1
  /// F16: a plane of high bytes, then a plane of low bytes.
  case split16 = 2
  /// F32: a plane of exponents, then three planes of mantissa with the sign in the last.
  case split32Rotate = 3

  /// Bytes of an element, which is also the number of planes.
  public var elementBytes: Int {
    switch self {
    case .none: 1
    case .split16Rotate, .split16: 2
    case .split32Rotate: 4
    }
  }

  /// Takes `count` bytes apart into planes.
  func split(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, count: Int) {
    let source = source.assumingMemoryBound(to: UInt8.self)
    let target = target.assumingMemoryBound(to: UInt8.self)
    switch self {
    case .none: target.update(from: source, count: count)
    case .split16Rotate: sk_split16_rotate(source, target, count / 2)
    case .split16: sk_split16(source, target, count / 2)
    case .split32Rotate: sk_split32_rotate(source, target, count / 4)
    }
  }

  /// Puts `count` bytes together from planes.
  func join(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer, count: Int) {
    let source = source.assumingMemoryBound(to: UInt8.self)
    let target = target.assumingMemoryBound(to: UInt8.self)
    switch self {
    case .none: target.update(from: source, count: count)
    case .split16Rotate: sk_join16_rotate(source, target, count / 2)
    case .split16: sk_join16(source, target, count / 2)
    case .split32Rotate: sk_join32_rotate(source, target, count / 4)
    }
  }
}

/// How a frame is stored.
public struct FrameForm: Sendable, Hashable {
  /// Raw or zstd.
  public let storage: FrameStorage
  /// What comes before zstd; `none` for raw.
  public let transform: FrameTransform
  /// Whether the writer lets zstd look for repetitions instead of coding bytes only. Not stored, since no reader needs it:
  /// false in forms that were read from a file.
  public let searchesMatches: Bool

  /// The content itself.
  public static let raw = FrameForm(storage: .raw, transform: .none)

  /// The number of the form in a frame record, or of what a reader needs to know of it.
  public var codec: UInt8 {
    switch transform {
    case .none: storage == .raw ? 0 : 1
    case .split16Rotate: 2
    case .split16: 4
    case .split32Rotate: 5
    }
  }

  /// The form of a number in a frame record, or nil.
  public init?(codec: UInt8) {
    switch codec {
    case 0: self = .raw
    case 1: self.init(storage: .zstd, transform: .none)
    case 2: self.init(storage: .zstd, transform: .split16Rotate)
    case 4: self.init(storage: .zstd, transform: .split16)
    case 5: self.init(storage: .zstd, transform: .split32Rotate)
    default: return nil
    }
  }

  /// Whether every chunk is the content itself.
  public var isRaw: Bool { storage == .raw }

  /// A form; raw frames have no transform.
  public init(storage: FrameStorage, transform: FrameTransform, searchesMatches: Bool = false) {
    precondition(storage == .zstd || transform == .none, "a raw frame has no transform")
    self.storage = storage
    self.transform = transform
    self.searchesMatches = searchesMatches
  }
}

/// One chunk of a frame as it is stored, with its checksums.
public struct EncodedChunk: Sendable {
  /// What goes into the file.
  public let stored: Bytes
  /// Bytes of content it stands for.
  public let contentCount: Int
  /// Whether `stored` is the content itself.
  public let isRaw: Bool
  /// CRC-32C of `stored`.
  public let checksum: UInt32
  /// SHA-256 of the content.
  public let contentHash: [UInt8]
}

/// Chooses, makes and reads the stored form of chunks. Everything is deterministic and may be called from any thread.
public enum FrameCodec {
  /// Bytes of content in a chunk; the last chunk of a frame holds the rest.
  public static let chunkBytes = 1 << 18

  /// Bytes at the start of a frame that its form is chosen from.
  public static let sampleBytes = 1 << 20

  /// The largest window a stored zstd frame may ask for.
  static let windowLimit = 8 << 20

  /// Content below this is stored raw: inflating it would cost more than its bytes.
  static let smallestCompressed = 4096

  /// The number of chunks of a frame.
  public static func chunkCount(_ contentLength: Int) -> Int { ceilDivide(contentLength, chunkBytes) }

  /// The bytes of content that chunk `index` holds.
  public static func chunkRange(_ index: Int, of contentLength: Int) -> Range<Int> {
    index * chunkBytes..<min(contentLength, (index + 1) * chunkBytes)
  }

  /// Decides from a sample how a frame is stored. Formats/ingot.md, section 8.
  /// - Parameters:
  ///   - sample: the frame's first chunk; 64 KiB of it are tried.
  ///   - dtype: decides which transform is tried.
  /// - Throws: `RequestError` io when zstd has no memory.
  public static func choose(sample: UnsafeRawBufferPointer, dtype: DType, compression: Compression) throws
    -> FrameForm
  {
    guard compression == .auto, sample.count >= smallestCompressed else { return .raw }
    let coded = FrameForm(storage: .zstd, transform: transform(for: dtype, count: sample.count))
    let matched = FrameForm(storage: .zstd, transform: .none, searchesMatches: true)
    return try CodecWorker.use { worker in
      let trial = slices(of: sample, into: worker)
      var best = FrameForm.raw
      var bestSize = trial.count - trial.count / 50
      for (form, handicap) in [(coded, 0), (matched, trial.count / 100)] {
        let size = try compress(trial, form, trial: true, worker) + handicap
        if size < bestSize {
          best = form
          bestSize = size
        }
      }
      return best
    }
  }

  /// The transform that suits a dtype.
  static func transform(for dtype: DType, count: Int) -> FrameTransform {
    let transform: FrameTransform =
      switch dtype {
      case .bf16: .split16Rotate
      case .f16: .split16
      case .f32: .split32Rotate
      default: .none
      }
    return count % transform.elementBytes == 0 ? transform : .none
  }

  /// Sixteen evenly spread slices of 4 KiB, or everything when there is no more than that.
  private static func slices(of sample: UnsafeRawBufferPointer, into worker: CodecWorker)
    -> UnsafeRawBufferPointer
  {
    let slice = 4096
    let count = 16
    guard sample.count > slice * count else { return sample }
    let target = UnsafeMutableRawBufferPointer(rebasing: worker.sample.bytes[0..<slice * count])
    // Starts are multiples of 64, so that slices hold whole elements.
    for index in 0..<count {
      let start = (sample.count - slice) / 64 * index / (count - 1) * 64
      UnsafeMutableRawBufferPointer(rebasing: target[index * slice..<(index + 1) * slice])
        .copyMemory(from: UnsafeRawBufferPointer(rebasing: sample[start..<start + slice]))
    }
    return UnsafeRawBufferPointer(target)
  }

  /// One chunk as it is stored. A chunk that zstd does not shrink, and any chunk of a raw form, keeps the bytes it was
  /// given without a copy.
  /// - Parameter content: at most `chunkBytes`, whole elements of the form's transform.
  /// - Throws: `RequestError` io when zstd has no memory.
  public static func encode(_ content: Bytes, _ form: FrameForm) throws -> EncodedChunk {
    precondition(content.count > 0 && content.count <= chunkBytes, "a chunk has 1 to \(chunkBytes) bytes")
    precondition(content.count % form.transform.elementBytes == 0, "a chunk holds whole elements")
    return try content.withUnsafeBytes { bytes in
      let contentHash = SHA256.digest(bytes)
      if form.storage == .zstd {
        let packed: ByteBuffer? = try CodecWorker.use { worker in
          let size = try compress(bytes, form, trial: false, worker)
          guard size < bytes.count else { return nil }
          let packed = ByteBuffer(count: size)
          packed.bytes.copyMemory(from: UnsafeRawBufferPointer(rebasing: worker.output.bytes[0..<size]))
          return packed
        }
        if let packed {
          return EncodedChunk(
            stored: Bytes(packed), contentCount: bytes.count, isRaw: false,
            checksum: CRC32C.hash(UnsafeRawBufferPointer(packed.bytes)), contentHash: contentHash)
        }
      }
      return EncodedChunk(
        stored: content, contentCount: bytes.count, isRaw: true, checksum: CRC32C.hash(bytes),
        contentHash: contentHash)
    }
  }

  /// Inflates one chunk into memory of exactly its content length.
  /// - Throws: `C_FRAME` when the bytes are no zstd frame of the form that ingots hold; file and place are the caller's
  ///   to add. Does not verify the checksum.
  public static func decode(
    _ stored: UnsafeRawBufferPointer, isRaw: Bool, _ transform: FrameTransform,
    into out: UnsafeMutableRawBufferPointer
  ) throws {
    guard !isRaw else {
      precondition(stored.count == out.count, "a raw chunk has as many bytes as its content")
      out.copyMemory(from: stored)
      return
    }
    try CodecWorker.use { worker in
      let isPlain = transform == .none
      let target = isPlain ? out : UnsafeMutableRawBufferPointer(rebasing: worker.planes.bytes[0..<out.count])
      do throws(ZstdFault) {
        try worker.inflate(stored, into: target, windowLimit: windowLimit)
      } catch {
        throw FormatError(.ingotFrame, error.problem)
      }
      if !isPlain, let planes = target.baseAddress, let base = out.baseAddress {
        transform.join(planes, base, count: out.count)
      }
    }
  }

  /// Compresses one chunk into the worker's `output`.
  /// - Returns: its length there.
  private static func compress(
    _ content: UnsafeRawBufferPointer, _ form: FrameForm, trial: Bool, _ worker: CodecWorker
  ) throws -> Int {
    var source = content
    if form.transform != .none, let base = content.baseAddress, let target = worker.planes.bytes.baseAddress {
      form.transform.split(base, target, count: content.count)
      source = UnsafeRawBufferPointer(start: target, count: content.count)
    }
    return try worker.compress(
      source, planes: form.transform.elementBytes,
      form.searchesMatches ? .matches(level: trial ? 1 : 3, windowLog: 20) : .none)
  }
}
