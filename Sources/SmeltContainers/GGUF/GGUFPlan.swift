// What a GGUF model will be before its first byte is written: which file holds which tensor, every header, every size.
// Formats/gguf.md, sections 1, 2 and 4.

package import SmeltStorage
package import SmeltTensors

/// The files of a GGUF model to be written. Depends on nothing but what it is made from.
package struct GGUFPlan: Sendable {
  /// What a tensor will be.
  package struct Tensor: Sendable, Hashable {
    /// The name; see `GGUFFile.problem(withName:)`.
    package let name: String
    /// How its elements are stored.
    package let type: GGUFTensorType
    /// The dimensions, outermost first, 1 to 4 of them; the last is a whole number of blocks.
    package let shape: Shape

    /// A tensor to be written. The plan checks it.
    package init(_ name: String, _ type: GGUFTensorType, _ shape: Shape) {
      self.name = name
      self.type = type
      self.shape = shape
    }

    /// The bytes it takes, padding left out. The shape must be one that a plan accepts.
    package var byteCount: Int { shape.count / type.blockElements * type.blockBytes }
  }

  /// How a model is cut into several files. Tensors stay in order, and none is cut.
  package struct Split: Sendable, Hashable {
    /// The most bytes of tensors, padding included, in one file; a larger tensor has a file for itself. Headers do not
    /// count, as in llama.cpp's tool.
    package var maxBytes: Int?
    /// The most tensors in one file.
    package var maxTensors: Int?
    /// Whether the first file holds the metadata alone.
    package var metadataFirst: Bool

    /// A rule; where both limits are given, the one met first cuts.
    package init(maxBytes: Int? = nil, maxTensors: Int? = nil, metadataFirst: Bool = false) {
      precondition(maxBytes ?? 1 > 0 && maxTensors ?? 1 > 0, "a limit of a split must be at least 1")
      self.maxBytes = maxBytes
      self.maxTensors = maxTensors
      self.metadataFirst = metadataFirst
    }
  }

  /// One file of the model.
  package struct Part: Sendable {
    /// Its tensors, in order.
    package let tensors: [Tensor]
    /// Its first bytes, up to where the data starts.
    let header: [UInt8]
    /// The size of the file.
    package let byteCount: Int
  }

  /// The files, in order; one at least.
  package private(set) var parts: [Part] = []
  /// What each tensor starts at a multiple of, in bytes.
  package let alignment: Int

  /// The size of all files.
  package var byteCount: Int { parts.reduce(0) { $0 + $1.byteCount } }

  /// A plan for these tensors, in this order, and these keys, in this order. `general.alignment` among the keys is
  /// followed; keys of a split (`split.no`, `split.count`, `split.tensors.count`) are the plan's own and are left out
  /// of `metadata`. A model that fits into one file is one file, without those keys.
  /// - Throws: `RequestError` unsupported when a reader that keeps the rules of Formats/gguf.md would refuse the result.
  package init(
    tensors: [Tensor], metadata: [(key: String, value: GGUFValue)], split: Split? = nil
  ) throws(RequestError) {
    let metadata = metadata.filter { !GGUFSplit.keys.contains($0.key) }
    try GGUFPlan.check(tensors, metadata)
    let alignmentKey = metadata.filter { $0.key == "general.alignment" }
    alignment = alignmentKey.first?.value.integer ?? 32
    let runs = GGUFPlan.cut(tensors, split, alignment)
    guard runs.count <= GGUFSplit.countLimit else {
      throw RequestError(
        .unsupported, "the model would be cut into \(runs.count) files, the format allows 65,535",
        help: "allow larger files")
    }
    let several = runs.count > 1
    for (index, run) in runs.enumerated() {
      // A part without the key would be read with an alignment of 32; one that does not name its writer would not be replaced.
      var keys = index == 0 ? metadata : alignmentKey + metadata.filter { $0.key == OutputKind.writerKey }
      if several {
        let values: [GGUFValue] = [
          .u16(UInt16(index)), .i32(Int32(tensors.count)), .u16(UInt16(runs.count)),
        ]
        keys += zip(GGUFSplit.keys, values).map { ($0, $1) }
      }
      parts.append(try GGUFPlan.part(tensors[run], keys, alignment))
    }
  }

  /// The paths of the files when the model's path is `path`: `path` itself, or for several
  /// `NAME-00001-of-0000N.gguf` and so on, where NAME is `path` without its `.gguf`.
  package func paths(_ path: String) -> [String] {
    guard parts.count > 1 else { return [path] }
    let stem = path.hasSuffix(".gguf") ? String(path.dropLast(".gguf".count)) : path
    return parts.indices.map { stem + GGUFSplit.ending($0, of: parts.count) }
  }

  /// Where each tensor lies: its file, counted from 0, its place in that, and its bytes, padding left out.
  package var places: [(tensor: Tensor, file: Int, position: Int)] {
    parts.enumerated().flatMap { number, part in
      var position = part.header.count
      return part.tensors.map { tensor in
        defer { position += ceilDivide(tensor.byteCount, alignment) * alignment }
        return (tensor, number, position)
      }
    }
  }

  /// The first bytes of a file, up to where its data starts.
  package func header(ofFile number: Int) -> [UInt8] { parts[number].header }

  /// XXH64 of all headers: of everything but the tensors' numbers.
  package var headerHash: UInt64 {
    var hash = XXH64()
    for part in parts { part.header.withUnsafeBytes { hash.update($0) } }
    return hash.value()
  }

  // MARK: cutting

  private static func cut(_ tensors: [Tensor], _ split: Split?, _ alignment: Int) -> [Range<Int>] {
    guard let split else { return [0..<tensors.count] }
    var runs: [Range<Int>] = split.metadataFirst && !tensors.isEmpty ? [0..<0] : []
    var start = 0
    var bytes = 0
    for (index, tensor) in tensors.enumerated() {
      let padded = ceilDivide(tensor.byteCount, alignment) * alignment
      let full = index - start >= split.maxTensors ?? .max || padded > (split.maxBytes ?? .max) - bytes
      if full && index > start {
        runs.append(start..<index)
        (start, bytes) = (index, 0)
      }
      bytes += padded
    }
    return runs + [start..<tensors.count]
  }

  // MARK: checking (rules 33, 34, 37 to 43)

  private static func check(
    _ tensors: [Tensor], _ metadata: [(key: String, value: GGUFValue)]
  ) throws(RequestError) {
    // Three keys of a split may come on top.
    guard tensors.count <= GGUFHeader.tensorLimit, metadata.count + 3 <= GGUFHeader.keyLimit else {
      throw RequestError(
        .unsupported, "\(tensors.count) tensors and \(metadata.count) keys are more than a GGUF file may have"
      )
    }
    var seen: Set<String> = []
    for (key, value) in metadata {
      if let problem = problem(key, value) {
        throw RequestError(.unsupported, "the key '\(excerpt(key))' cannot be written: \(problem)")
      }
      guard seen.insert(key).inserted else {
        throw RequestError(.unsupported, "the key '\(key)' would appear twice")
      }
    }
    seen = []
    var end = 0
    for tensor in tensors {
      if let problem = problem(tensor) {
        throw RequestError(.unsupported, "the tensor '\(excerpt(tensor.name))' cannot be written: \(problem)")
      }
      guard seen.insert(tensor.name).inserted else {
        throw RequestError(.unsupported, "the tensor '\(tensor.name)' would appear twice")
      }
      // Headers are below 2^40 bytes: counts, keys and strings are bounded.
      let (next, overflow) = end.addingReportingOverflow(tensor.byteCount)
      let limit = Int.max - 1 << 40
      guard !overflow, next <= limit - GGUFHeader.alignments.upperBound else {
        throw RequestError(.unsupported, "the tensor '\(tensor.name)' would end beyond 2^63 bytes")
      }
      end = ceilDivide(next, GGUFHeader.alignments.upperBound) * GGUFHeader.alignments.upperBound
    }
  }

  private static func problem(_ key: String, _ value: GGUFValue) -> String? {
    if let problem = GGUFHeader.problem(withKey: key) { return problem }
    if key == "general.alignment", let problem = GGUFHeader.problem(withAlignment: value) { return problem }
    let longest: Int
    switch value {
    case .string(let text): longest = text.utf8.count
    case .array(let array): longest = array.longestString
    default: longest = 0
    }
    guard longest > GGUFHeader.stringBytes else { return nil }
    return "a string has \(longest) bytes, expected at most \(GGUFHeader.stringBytes)"
  }

  private static func problem(_ tensor: Tensor) -> String? {
    if let problem = GGUFFile.problem(withName: tensor.name) { return problem }
    let shape = tensor.shape
    guard (1...Int(GGUFHeader.rankLimit)).contains(shape.rank) else {
      return "it has \(shape.rank) dimensions, expected 1 to 4"
    }
    guard shape.dimensions.allSatisfy({ $0 > 0 }) else { return "it is \(shape), expected no dimension of 0" }
    guard shape.columns % tensor.type.blockElements == 0 else {
      return
        "its rows have \(shape.columns) elements, expected a multiple of \(tensor.type.blockElements), the block of \(tensor.type)"
    }
    return GGUFHeader.byteCount(tensor.type, shape.dimensions) == nil
      ? "the bytes of \(shape) do not fit in 63 bits" : nil
  }

  // MARK: header bytes

  private static func part(
    _ tensors: ArraySlice<Tensor>, _ keys: [(key: String, value: GGUFValue)], _ alignment: Int
  ) throws(RequestError) -> Part {
    var header = Array("GGUF".utf8)
    let values = keys.reduce(0) { $0 + $1.key.utf8.count + 32 + $1.value.longByteCount }
    header.reserveCapacity(values + tensors.count * 160 + 2 * alignment)
    header.append(littleEndian: UInt32(3))
    header.append(littleEndian: UInt64(tensors.count))
    header.append(littleEndian: UInt64(keys.count))
    for (key, value) in keys {
      header.append(longString: key)
      header.append(littleEndian: value.type.rawValue)
      value.append(to: &header)
    }
    var offset = 0
    for tensor in tensors {
      header.append(longString: tensor.name)
      header.append(littleEndian: UInt32(tensor.shape.rank))
      for dimension in tensor.shape.dimensions.reversed() { header.append(littleEndian: UInt64(dimension)) }
      header.append(littleEndian: tensor.type.id)
      header.append(littleEndian: UInt64(offset))
      offset += ceilDivide(tensor.byteCount, alignment) * alignment
    }
    header += [UInt8](repeating: 0, count: ceilDivide(header.count, alignment) * alignment - header.count)
    return Part(tensors: Array(tensors), header: header, byteCount: header.count + offset)
  }
}
