// What a method did to each row, kept in the result: methods that move numbers on purpose leave them further from the source
// than rounding does, and a verification must still tell that from damage. Formats/methods.md, section 6.

import SmeltModels
import SmeltStorage
import SmeltTensors

/// The relative errors of rows, weight by weight, as they were when the weights were written.
struct WeightErrors: Sendable {
  /// What a result carries them under: an ingot as a note, a directory as a file, a GGUF file as the key `smelt.errors`.
  static let fileName = "smelt-errors.json"
  private static let schema = "smelt.errors/1"

  /// One weight's errors.
  struct Entry: Sendable, Hashable {
    /// Rows that share an error; the last group may have fewer.
    var rows: Int
    /// For each group √(Σ (a − b)² / Σ a²), a the source's numbers: the upper half of a float32, rounded up.
    var errors: [UInt16]

    /// The error of a group, as it is kept.
    static func code(_ squares: Double, _ source: Double) -> UInt16 {
      guard squares > 0 else { return 0 }
      let error = source > 0 ? Float((squares / source).squareRoot()) : .infinity
      guard error.isFinite else { return UInt16(Float.infinity.bitPattern >> 16) }
      let bits = error.bitPattern
      return UInt16(bits >> 16) + (bits & 0xFFFF == 0 ? 0 : 1)
    }

    /// The error that a code stands for.
    static func value(_ code: UInt16) -> Double { Double(Float(bitPattern: UInt32(code) << 16)) }
  }

  /// Bytes of a weight's content for each error kept, so that they stay below a thousandth of it.
  private static let contentPerError = 4096

  var entries: [String: Entry] = [:]

  /// Nothing yet.
  init() {}

  /// The errors of a weight.
  /// - Parameters:
  ///   - source: the source's own numbers, whatever was folded into the result's.
  ///   - result: what is written.
  static func entry(_ source: Weight, _ result: Weight, _ parallel: Parallel) -> Entry {
    let rows = max(1, result.rows)
    let group = max(1, contentPerError * rows / max(1, result.byteCount))
    let distances = RowDistances(source, result, parallel)
    return Entry(
      rows: group,
      errors: stride(from: 0, to: rows, by: group).map { first in
        let (squares, source) = distances.sums(first..<min(rows, first + group))
        return Entry.code(squares, source)
      })
  }

  /// The file.
  var bytes: [UInt8] {
    let weights = entries.keys.sorted().map { name -> JSON in
      let entry = entries[name]
      let digits = (entry?.errors ?? []).map { code in
        let text = String(code, radix: 16)
        return String(repeating: "0", count: 4 - text.count) + text
      }
      return ["name": JSON(name), "rows": JSON(entry?.rows ?? 1), "errors": JSON(digits.joined())]
    }
    return Array(
      (JSON(members: [("schema", JSON(Self.schema)), ("weights", JSON(weights))]).text() + "\n").utf8)
  }

  /// Reads the file.
  /// - Throws: `STAT_FORMAT` for one that is no such file.
  init(_ bytes: Bytes, file: String) throws {
    func refuse(_ problem: String, _ offset: Int?) -> FormatError {
      FormatError(.statistics, file: file, offset: offset, problem)
    }
    let json: JSON
    do { json = try JSON.scan(bytes) } catch { throw refuse(error.problem, error.offset) }
    guard json["schema"]?.string == Self.schema, let list = json["weights"]?.array else {
      throw refuse("is no list of weights' errors, expected \"schema\": \"\(Self.schema)\"", json.offset)
    }
    for item in list {
      guard let name = item["name"]?.string, let rows = item["rows"]?.integer, rows > 0,
        let digits = item["errors"]?.string, digits.utf8.count % 4 == 0
      else { throw refuse("holds an entry without name, rows and errors", item.offset) }
      let text = Array(digits.utf8)
      let errors = stride(from: 0, to: text.count, by: 4).map {
        UInt16(String(decoding: text[$0..<$0 + 4], as: UTF8.self), radix: 16)
      }
      guard !errors.contains(nil) else {
        throw refuse("'\(excerpt(name))' has errors that are no digits", item.offset)
      }
      entries[name] = Entry(rows: rows, errors: errors.compactMap { $0 })
    }
  }
}

/// For each row Σ (a − b)² and Σ a².
struct RowDistances: Sendable {
  private var rows: [(squares: Double, source: Double)]

  init(_ a: Weight, _ b: Weight, _ parallel: Parallel) {
    let columns = a.columns
    rows = [(Double, Double)](repeating: (0, 0), count: max(1, a.rows))
    guard a.shape.count > 0 else { return }
    rows.withUnsafeMutableBufferPointer { buffer in
      // SAFETY: each row of the loop writes its own element, while the buffer is borrowed
      guard let base = buffer.baseAddress else { return }
      let shared = SharedPointer(base)
      let block = 64
      parallel.forEach(ceilDivide(a.rows, block)) { index in
        let range = index * block..<min(a.rows, (index + 1) * block)
        let (x, y) = (a.decode(rows: range), b.decode(rows: range))
        for row in range {
          let start = (row - range.lowerBound) * columns
          shared.pointer[row] = RowDistances.sums(x, y, start..<start + columns)
        }
      }
    }
  }

  static func sums(_ x: [Float], _ y: [Float], _ range: Range<Int>) -> (squares: Double, source: Double) {
    var (squares, source) = (0.0, 0.0)
    for index in range {
      let (a, b) = (Double(x[index]), Double(y[index]))
      squares += (a - b) * (a - b)
      source += a * a
    }
    return (squares, source)
  }

  /// The sums of some rows.
  func sums(_ range: Range<Int>) -> (squares: Double, source: Double) {
    rows[range].reduce(into: (0, 0)) { $0 = ($0.0 + $1.squares, $0.1 + $1.source) }
  }

  /// √(Σ (a − b)² / Σ a²) of a row; infinite where only b has numbers.
  func error(_ row: Int) -> Double {
    let (squares, source) = rows[row]
    return squares == 0 ? 0 : source == 0 ? .infinity : (squares / source).squareRoot()
  }
}
