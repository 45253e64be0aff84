// Every rule of an index, in bulk: each record is looked at once, none is made into an object. The rules' numbers, those of
// Formats/ingot.md, stand beside the code that checks them.

internal import SmeltStorage
internal import SmeltTensors

extension IngotIndex {
  /// The counts at the start of an index, none larger than the index can hold.
  static func counts(_ bytes: Bytes, start: Int, file: String) throws(FormatError) -> Counts {
    var reader = ByteReader(bytes, file: file, origin: start, code: .ingotIndex)
    func count(_ value: UInt64, _ field: String, _ bytesOfOne: Int) throws(FormatError) -> Int {
      guard value <= UInt64(bytes.count / bytesOfOne) else {  // I20
        throw FormatError(
          .ingotIndex, file: file, subject: field, offset: start,
          "found \(value), more than an index of \(bytes.count) bytes can hold")
      }
      return Int(value)
    }
    func small(_ field: String, _ bytesOfOne: Int) throws(FormatError) -> Int {
      try count(UInt64(try reader.number(UInt32.self, field)), field, bytesOfOne)
    }
    func large(_ field: String, _ bytesOfOne: Int) throws(FormatError) -> Int {
      try count(try reader.number(UInt64.self, field), field, bytesOfOne)
    }
    var counts = Counts()
    counts.weights = try small("number of weights", weightBytes)
    counts.weightFrames = try small("number of frames", frameBytes)
    counts.others = try small("number of files", frameBytes)
    counts.encodings = try small("number of encodings", 8)
    counts.chunks = try large("number of chunks", 8)
    counts.dimensions = try large("number of dimensions", 8)
    counts.strings = try large("length of the names", 1)
    counts.metadata = try large("length of the metadata", 1)
    counts.layers = Int(try reader.number(UInt32.self, "number of layers"))
    counts.experts = Int(try reader.number(UInt32.self, "number of experts"))
    _ = try count(
      UInt64(counts.layers).multipliedFullWidth(by: UInt64(counts.experts)).low,
      "size of the table of experts", 8)
    counts.fileNumber = Int(try reader.number(UInt32.self, "number of the file"))
    counts.fileCount = Int(try reader.number(UInt32.self, "number of files"))
    counts.totalWeights = try reader.size("number of all weights")
    guard try reader.number(UInt64.self, "reserved") == 0 else {
      throw FormatError(
        .ingotIndex, file: file, subject: "reserved", offset: start + 72,
        "found a reserved byte that is not zero")
    }
    let limits = [
      (counts.encodings, IngotLimits.encodings, "encodings"), (counts.others, IngotLimits.others, "files"),
      (counts.metadata, IngotLimits.metadataBytes, "bytes of metadata"),
      (counts.chunks, Int(UInt32.max), "chunks"),
      (counts.fileCount, IngotLimits.fileParts, "parts"),
    ]
    for (found, limit, what) in limits where found > limit {
      throw FormatError(
        .ingotIndex, file: file, subject: "index", offset: start,
        "has \(found) \(what), expected at most \(limit)")
    }
    // I33
    guard counts.fileNumber >= 1, counts.fileNumber <= counts.fileCount,
      counts.fileCount == 1 ? counts.totalWeights == counts.weights : counts.totalWeights >= counts.weights
    else {
      throw FormatError(
        .ingotIndex, file: file, subject: "parts", offset: start + 56,
        "is part \(counts.fileNumber) of \(counts.fileCount) with \(counts.weights) of \(counts.totalWeights) weights"
      )
    }
    return counts
  }

  /// Where the tables start: one after another, without gaps.
  static func places(_ counts: Counts) -> Places {
    var places = Places()
    places.frames = headBytes
    places.chunks = places.frames + frameBytes * counts.frames
    places.dimensions = places.chunks + 8 * counts.chunks
    places.weights = places.dimensions + 8 * counts.dimensions
    places.experts = places.weights + weightBytes * counts.weights
    places.others = places.experts + 8 * counts.layers * counts.experts
    places.encodings = places.others + 8 * counts.others
    places.order = places.encodings + 8 * counts.encodings
    places.strings = places.order + 4 * counts.weights
    places.metadata = places.strings + counts.strings
    places.end = places.metadata + counts.metadata
    return places
  }

  // MARK: what is small enough to be made at once

  func readMetadata() throws(FormatError) -> JSON {
    let text = bytes[places.metadata..<places.end]
    let found: JSON
    do {
      found = try JSON.scan(text, limits: JSONLimits(depth: 64, values: 1_000_000))
    } catch {
      throw refuse("metadata", at: places.metadata + error.offset, error.problem)
    }
    guard found.object != nil else {
      throw refuse("metadata", at: places.metadata, "found \(found.kind), expected an object")
    }
    return found
  }

  func readEncodings() throws(FormatError) -> [any Encoding] {
    var found: [any Encoding] = []
    for row in 0..<counts.encodings {
      let at = places.encodings + 8 * row
      let (first, count) = (Int(word(at)), Int(word(at + 4)))
      guard first + count <= counts.strings, count <= 255 else {
        throw refuse("encoding \(row)", at: at, "has its name outside the names")
      }
      let name = bytes[places.strings + first..<places.strings + first + count].withUnsafeBytes {
        String(decoding: $0, as: UTF8.self)
      }
      guard let encoding = Encodings.named(name) else {
        throw refuse("encoding \(row)", at: at, "is the unknown '\(printable(name))'")
      }
      found.append(encoding)
    }
    return found
  }

  func readOthers() throws(FormatError) -> [Other] {
    var found: [Other] = []
    var names: Set<String> = []
    for row in 0..<counts.others {
      let at = places.others + 8 * row
      guard let kind = OtherRecord.Kind(rawValue: half(at + 6)) else {
        throw refuse("file \(row)", at: at + 6, "has the kind \(half(at + 6)), expected 1, 2 or 3")
      }
      guard Int(word(at)) + Int(half(at + 4)) <= counts.strings else {
        throw refuse("file \(row)", at: at, "has its name outside the names")
      }
      if UTF8Check.firstInvalid(nameBytes(at)) != nil {
        throw refuse("file \(row)", at: at, "the name is not UTF-8")
      }
      let name = name(at)
      if kind == .retired {
        guard name.isEmpty else { throw refuse("file \(row)", at: at, "is retired and has a name") }
      } else if let problem = kind == .note
        ? IngotLimits.noteNameProblem(name) : IngotLimits.fileNameProblem(name)
      {
        throw refuse("file \(row)", at: at, problem)
      } else if !names.insert(name).inserted {
        throw refuse(name, at: at, "appears twice in the index")
      }
      found.append(Other(kind: kind, name: name, frame: counts.weightFrames + row))
    }
    for (row, other) in found.enumerated() {
      guard let folder = CarriedName.folders(other.name).first(where: { names.contains($0) }) else {
        continue
      }
      throw refuse(
        other.name, at: places.others + 8 * row, "lies in '\(printable(folder))', which is a file too")
    }
    return found
  }

  // MARK: tables

  /// Names of files may hold any characters; those of weights are ASCII (I22).
  private func checkWeightNames() throws(FormatError) {
    for row in 0..<counts.weights {
      let at = weight(row)
      guard Int(word(at)) + Int(half(at + 4)) <= counts.strings else { continue }  // refused by its own rule
      guard let bad = nameBytes(at).first(where: { $0 >= 0x80 }) else { continue }
      throw refuse(
        "weight \(row)", at: at,
        "its name holds the byte 0x\(String(bad, radix: 16)), expected printable ASCII")
    }
  }

  func check() throws(FormatError) {
    for row in 0..<counts.dimensions where long(places.dimensions + 8 * row) > IngotLimits.dimension {  // I24
      throw refuse(
        "dimension \(row)", at: places.dimensions + 8 * row,
        "is \(long(places.dimensions + 8 * row)), expected at most 2^40")
    }
    var isASCII = true
    for at in places.strings..<places.metadata where !(0x20...0x7E).contains(byte(at)) {  // I22
      guard byte(at) >= 0x80 else {
        throw refuse(
          "names", at: at, "hold the byte 0x\(String(byte(at), radix: 16)), expected printable characters")
      }
      isASCII = false
    }
    if !isASCII { try checkWeightNames() }
    try checkFrames()
    try checkWeights()
    try checkOthers()
    try checkOrder()
    try checkExperts()
  }

  /// Rules I8, I9, I11, I12, I13, I21.
  private func checkFrames() throws(FormatError) {
    var end = IngotLimits.headerBytes
    var chunk = 0
    for row in 0..<counts.frames {
      let at = places.frames + row * IngotIndex.frameBytes
      let (offset, stored, content) = (long(at), long(at + 8), long(at + 16))
      guard let codec = ChunkCodec(rawValue: byte(at + 64)), Int(byte(at + 65)) < IngotLimits.dtypes.count,
        Int(byte(at + 66)) < IngotLimits.parts.count, word(at + 68) == 0
      else {
        throw refuse(
          subject(row), at: at + 64,
          "has the codec \(byte(at + 64)), dtype \(byte(at + 65)), part \(byte(at + 66)) and reserved word \(word(at + 68))"
        )
      }
      guard stored <= UInt64(start), offset <= UInt64(start) - stored else {
        throw refuse(
          subject(row), at: at, "lies at \(offset) with \(stored) bytes, beyond the index at \(start)")
      }
      let expected = IngotFrame.place(after: end, codec, storedLength: Int(stored))
      guard Int(offset) == expected else {
        throw refuse(
          subject(row), at: at, "lies at \(offset), expected \(expected) after the frame before it")
      }
      end = expected + Int(stored)
      guard content <= UInt64(counts.chunks) * UInt64(FrameCodec.chunkBytes), Int(word(at + 56)) == chunk,
        FrameCodec.chunkCount(Int(content)) <= counts.chunks - chunk
      else {
        throw refuse(
          subject(row), at: at + 16,
          "has \(content) bytes of content from chunk \(word(at + 56)) on, expected from \(chunk) of \(counts.chunks)"
        )
      }
      guard Int(word(at + 60)) + Int(byte(at + 67)) <= counts.dimensions, byte(at + 67) <= IngotLimits.rank
      else {
        throw refuse(
          subject(row), at: at + 60, "has \(byte(at + 67)) dimensions, expected at most 8 of the table's")
      }
      try checkChunks(of: row, codec, first: chunk, content: Int(content), stored: Int(stored))
      chunk += FrameCodec.chunkCount(Int(content))
    }
    guard chunk == counts.chunks else {
      throw refuse("chunks", at: places.chunks, "has \(counts.chunks), its frames use \(chunk)")
    }
    let expected = IngotFrame.place(after: end, .raw, storedLength: bytes.count)
    guard expected == start else {
      throw FormatError(
        .ingotIndex, file: file, subject: "index", offset: 16, "starts at \(start), expected \(expected)")
    }
  }

  private func checkChunks(of row: Int, _ codec: ChunkCodec, first: Int, content: Int, stored: Int)
    throws(FormatError)
  {
    var (total, left) = (0, content)
    var at = places.chunks + 8 * first
    while left > 0 {
      let bytes = min(left, FrameCodec.chunkBytes)
      let word = word(at)
      let length = Int(word & ~IngotLimits.rawBit)
      let isRaw = word & IngotLimits.rawBit != 0
      guard isRaw ? length == bytes : codec != .raw && length > 0 && length < bytes else {
        throw refuse(
          subject(row), at: at,
          "chunk \((at - places.chunks) / 8 - first) has \(length) \(isRaw ? "raw" : "compressed") bytes for \(bytes) of content"
        )
      }
      total += length
      left -= bytes
      at += 8
    }
    guard total == stored else {
      throw refuse(
        subject(row), at: places.frames + row * IngotIndex.frameBytes + 8,
        "its chunks have \(total) bytes, expected \(stored)")
    }
  }

  /// Rules I22, I24, I25 and I26.
  private func checkWeights() throws(FormatError) {
    var known = PartLayoutCache()
    var frame = 0
    var (layers, experts) = (0, 0)
    for row in 0..<counts.weights {
      let at = weight(row)
      guard Int(word(at)) + Int(half(at + 4)) <= counts.strings, half(at + 4) > 0,
        half(at + 4) <= IngotLimits.weightNameBytes
      else {
        throw refuse("weight \(row)", at: at, "has its name outside the names, or none of 1 to 1,000 bytes")
      }
      guard Int(word(at + 8)) == frame, frame + Int(byte(at + 7)) <= counts.weightFrames else {
        throw refuse(name(at), at: at + 8, "starts with frame \(word(at + 8)), expected \(frame)")
      }
      let rank = Int(byte(at + 6))
      guard rank <= IngotLimits.rank, Int(word(at + 12)) + rank <= counts.dimensions,
        Int(half(at + 24)) < encodings.count, half(at + 26) == 0, word(at + 28) == 0
      else {
        throw refuse(
          name(at), at: at + 12, "has an impossible shape or encoding, or a reserved byte that is not zero")
      }
      let (layer, expert) = (optional(at + 16), optional(at + 20))
      guard (layer ?? -1) < counts.layers, (expert ?? -1) < counts.experts, expert == nil || layer != nil
      else {
        throw refuse(name(at), at: at + 16, "belongs to layer \(word(at + 16)), expert \(word(at + 20))")
      }
      (layers, experts) = (max(layers, (layer ?? -1) + 1), max(experts, (expert ?? -1) + 1))
      try known.check(self, at)
      frame += Int(byte(at + 7))
    }
    guard layers == counts.layers, experts == counts.experts else {  // I34
      throw refuse(
        "layers", at: 48,
        "has \(counts.layers) layers of \(counts.experts) experts, its weights have \(layers) of \(experts)")
    }
    guard frame == counts.weightFrames else {
      throw refuse("frames", at: places.frames, "has \(counts.weightFrames) for weights, they use \(frame)")
    }
  }

  /// Rule I28, and that files have the dtype and the shape of bytes.
  private func checkOthers() throws(FormatError) {
    for other in others {
      let frame = frame(other.frame)
      let at = places.frames + other.frame * IngotIndex.frameBytes
      guard frame.dtype == .u8, frame.part == .values, byte(at + 67) == 0 else {
        throw refuse(subject(other.frame), at: at + 64, "has the dtype, part or shape of a weight")
      }
      guard other.kind != .retired else { continue }
      guard frame.contentLength <= IngotLimits.fileBytes,
        ceilDivide(frame.contentLength, IngotLimits.fileRatio) <= frame.storedLength
      else {
        throw refuse(
          other.name, at: at + 16,
          "\(frame.storedLength) bytes stand for \(frame.contentLength), expected at most 2^30 and 1,000 times as many",
          code: .ingotBomb)
      }
    }
  }

  /// Rule I23: names that ascend are all different.
  private func checkOrder() throws(FormatError) {
    // SAFETY: names lie in this object's bytes.
    var before = UnsafeRawBufferPointer(start: nil, count: 0)
    for place in 0..<counts.weights {
      let row = Int(word(places.order + 4 * place))
      guard row < counts.weights else {
        throw refuse(
          "order of names", at: places.order + 4 * place, "names weight \(row) of \(counts.weights)")
      }
      let name = nameBytes(weight(row))
      guard place == 0 || compare(before, name) < 0 else {
        throw refuse(
          self.name(weight(row)), at: places.order + 4 * place, "appears twice in the index, or out of order")
      }
      before = name
    }
  }

  /// Rule I34: the table names every weight of an expert once, and those of one expert lie side by side.
  private func checkExperts() throws(FormatError) {
    var named = 0
    for slot in 0..<counts.layers * counts.experts {
      let at = places.experts + 8 * slot
      let (first, count) = (Int(word(at)), Int(word(at + 4)))
      let (layer, expert) = (slot / counts.experts, slot % counts.experts)
      guard count > 0 ? first + count <= counts.weights : first == 0, count <= counts.weights - named else {
        throw refuse(
          "layer \(layer), expert \(expert)", at: at,
          "has \(count) weights from \(first) on, of \(counts.weights)")
      }
      for row in first..<first + count
      where word(weight(row) + 16) != UInt32(layer) || word(weight(row) + 20) != UInt32(expert) {
        throw refuse(
          "layer \(layer), expert \(expert)", at: at,
          "claims '\(name(weight(row)))', which is not one of its weights")
      }
      named += count
    }
    var owned = 0
    for row in 0..<counts.weights where word(weight(row) + 20) != IngotLimits.none { owned += 1 }
    guard named == owned else {
      throw refuse(
        "experts", at: places.experts, "names \(named) weights, \(owned) belong to experts")
    }
  }
}
