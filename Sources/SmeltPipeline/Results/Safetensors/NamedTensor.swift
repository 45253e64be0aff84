// A tensor of a directory, and the slabs that fill it.

import SmeltStorage
import SmeltTensors

/// One tensor with codes, the slabs that fill it, and the tensors with their scales.
struct NamedTensor {
  /// The slabs in the order of their bytes, as places in the plan.
  var slabs: [Int]
  /// Codes first, then one for each further part.
  var entries: [Entry]

  /// One tensor of a file.
  struct Entry {
    var name: String
    var dtype: DType
    var shape: Shape
    /// The bytes, where no part of the weight is meant.
    var constant: Bytes?
    /// Whether the top bit of each byte is flipped: signed bytes as bytes offset by 128.
    var flipsTopBits = false
    /// How numbers of a byte each are put into words, where they are.
    var packed: Packing?
  }

  /// Zero points [rows, groups], one a byte, as little-endian words along the rows: [⌈rows × bits / 32⌉, groups]. Those of 8
  /// bits are offset by 128, as codes are.
  struct Packing {
    let bits: Int
    let groups: Int

    /// The words.
    func words(_ bytes: Bytes) -> Bytes {
      let rows = bytes.count / max(1, groups)
      let perWord = 32 / bits
      var out = [UInt8](repeating: 0, count: (rows + perWord - 1) / perWord * groups * 4)
      let offset: UInt8 = bits == 8 ? 0x80 : 0
      for (index, value) in bytes.array.enumerated() {
        let (row, group) = (index / groups, index % groups)
        let bit = row % perWord * bits
        out[(row / perWord * groups + group) * 4 + bit / 8] |= (value ^ offset) << UInt8(bit % 8)
      }
      return Bytes(out)
    }
  }
}
