// Statistics as tensors and back. Formats/statistics.md, sections 2 and 3.

package import SmeltModels
internal import SmeltStorage
package import SmeltTensors

extension StatisticsEntry {
  /// The tensors of an entry: `.absmax` where it is known, its squares, `.count`.
  package func tensors(_ form: StatisticsForm = .means) -> [StatisticsTensor] {
    zip(
      StatisticsEntry.layout(weight, groups: groups, columns: columns, form),
      [
        absmax.map(littleEndian), form == .means ? littleEndian(meanSquare) : littleEndian(sums),
        littleEndian(counts),
      ]
    ).compactMap { layout, bytes in
      bytes.map { StatisticsTensor(name: layout.name, dtype: layout.dtype, shape: layout.shape, bytes: $0) }
    }
  }

  /// Names, dtypes and shapes of an entry's tensors, for writers that need the header before the values.
  package static func layout(
    _ weight: WeightName, groups: Int, columns: Int, _ form: StatisticsForm = .means
  ) -> [(name: String, dtype: DType, shape: Shape)] {
    [
      ("\(weight).absmax", .f32, [groups, columns]),
      ("\(weight)\(form.squares)", form.dtype, [groups, columns]),
      ("\(weight).count", .i64, [groups]),
    ]
  }
}

extension ExpertTokens {
  /// The tensor of the counts, I64 [experts].
  package var tensor: StatisticsTensor {
    StatisticsTensor(
      name: ExpertTokens.tensorName(layer), dtype: .i64, shape: [counts.count], bytes: littleEndian(counts))
  }

  /// The name of a layer's tensor: `blk.7.ffn_exps.tokens`.
  package static func tensorName(_ layer: Int) -> String { "blk.\(layer).ffn_exps.tokens" }

  /// The layer of a tensor's name, or nil when it is no such name.
  static func layer(ofTensor name: String) -> Int? {
    guard name.hasPrefix("blk."), name.hasSuffix(".ffn_exps.tokens"),
      let layer = Int(name.dropFirst(4).dropLast(".ffn_exps.tokens".count)), layer >= 0,
      tensorName(layer) == name
    else { return nil }
    return layer
  }
}

extension Statistics {
  /// Endings that a weight must have.
  private var required: [String] { [form.squares, ".count"] }

  /// Every tensor has a known name, its dtype and a shape that fits its siblings'.
  func checkLayout() throws(FormatError) {
    for tensor in tensors {
      if ExpertTokens.layer(ofTensor: tensor.name) != nil {
        try require(tensor, .i64, rank: 1)
        continue
      }
      if CacheRange.layer(ofTensor: tensor.name) != nil {
        try require(tensor, .f32, rank: 1)
        guard tensor.shape.count == 2 else { throw refusal(tensor, "is \(tensor.shape), expected 2 numbers") }
        continue
      }
      if ExpertSources.layer(ofTensor: tensor.name) != nil {
        try require(tensor, .i64, rank: 2)
        guard tensor.shape.columns == 4 else {
          throw refusal(tensor, "is \(tensor.shape), expected 4 columns")
        }
        continue
      }
      guard let kind = ([".absmax"] + required).first(where: { tensor.name.hasSuffix($0) }) else {
        throw refusal(tensor, "is not the name of a statistic")
      }
      let weight = String(tensor.name.dropLast(kind.count))
      for sibling in required where self.tensor(weight + sibling) == nil {
        throw refusal(tensor, "has no \(weight + sibling) beside it")
      }
      try require(
        tensor, kind == ".count" ? .i64 : kind == ".absmax" ? .f32 : form.dtype,
        rank: kind == ".count" ? 1 : 2)
      guard let first = self.tensor(weight + form.squares) else { continue }
      let expected: Shape = kind == ".count" ? [first.shape.rows] : first.shape
      guard tensor.shape == expected, tensor.shape.count > 0 else {
        throw refusal(tensor, "is \(tensor.shape), expected \(expected), none of them 0")
      }
    }
  }

  private func require(_ tensor: StatisticsTensor, _ dtype: DType, rank: Int) throws(FormatError) {
    guard tensor.dtype == dtype, tensor.shape.rank == rank else {
      throw refusal(
        tensor,
        "is \(tensor.dtype) \(tensor.shape), expected \(dtype) with \(rank) dimension\(rank == 1 ? "" : "s")"
      )
    }
  }

  private func refusal(_ tensor: StatisticsTensor, _ problem: String) -> FormatError {
    FormatError(.statistics, file: file, subject: tensor.name, problem)
  }

  /// The values of an F32 tensor: finite, not negative.
  func floats(_ tensor: StatisticsTensor) throws(FormatError) -> [Float] {
    // SAFETY: the bytes are held against the shape first, since anybody can make a tensor.
    guard tensor.bytes.count == tensor.shape.count * 4 else {
      throw refusal(
        tensor, "has \(tensor.bytes.count) bytes, expected \(tensor.shape.count) numbers of 4 bytes")
    }
    var values = tensor.bytes.withUnsafeBytes { bytes in
      (0..<tensor.shape.count).map {
        Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 4, as: UInt32.self)))
      }
    }
    if let bad = values.firstIndex(where: { !($0 >= 0 && $0.isFinite) }) {
      throw refusal(tensor, "value \(bad) is \(values[bad]), expected a finite number of at least 0")
    }
    if let divisors = tensor.rowDivisors {
      let columns = tensor.shape.columns
      for (row, divisor) in divisors.enumerated() {
        for index in row * columns..<(row + 1) * columns {
          values[index] = divisor == 0 ? 0 : values[index] / divisor
        }
      }
    }
    return values
  }

  /// The values of an F64 tensor: finite, not negative.
  func doubles(_ tensor: StatisticsTensor) throws(FormatError) -> [Double] {
    // SAFETY: as above.
    guard tensor.bytes.count == tensor.shape.count * 8 else {
      throw refusal(
        tensor, "has \(tensor.bytes.count) bytes, expected \(tensor.shape.count) numbers of 8 bytes")
    }
    let values = tensor.bytes.withUnsafeBytes { bytes in
      (0..<tensor.shape.count).map {
        Double(
          bitPattern: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)))
      }
    }
    if let bad = values.firstIndex(where: { !($0 >= 0 && $0.isFinite) }) {
      throw refusal(tensor, "value \(bad) is \(values[bad]), expected a finite number of at least 0")
    }
    return values
  }

  /// The values of an I64 tensor: not negative.
  func counts(_ tensor: StatisticsTensor) throws(FormatError) -> [Int] {
    // SAFETY: as above.
    guard tensor.bytes.count == tensor.shape.count * 8 else {
      throw refusal(
        tensor, "has \(tensor.bytes.count) bytes, expected \(tensor.shape.count) numbers of 8 bytes")
    }
    let values = tensor.bytes.withUnsafeBytes { bytes in
      (0..<tensor.shape.count).map {
        Int(Int64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: Int64.self)))
      }
    }
    if let bad = values.firstIndex(where: { $0 < 0 }) {
      throw refusal(tensor, "value \(bad) is \(values[bad]), expected at least 0")
    }
    return values
  }
}

func littleEndian(_ values: [Float]) -> Bytes {
  let buffer = ByteBuffer(count: values.count * 4)
  for (index, value) in values.enumerated() {
    buffer.bytes.storeBytes(of: value.bitPattern.littleEndian, toByteOffset: index * 4, as: UInt32.self)
  }
  return Bytes(buffer)
}

func littleEndian(_ values: [Int]) -> Bytes {
  let buffer = ByteBuffer(count: values.count * 8)
  for (index, value) in values.enumerated() {
    buffer.bytes.storeBytes(of: Int64(value).littleEndian, toByteOffset: index * 8, as: Int64.self)
  }
  return Bytes(buffer)
}
