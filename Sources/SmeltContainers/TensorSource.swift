// What every container of named tensors offers: a list of tensors and the bytes of each, lent, not copied.

package import SmeltStorage
package import SmeltTensors

/// The file that tensors lie in, shared by all of them.
package final class TensorFile: Sendable {
  /// Its path.
  package let path: String
  /// The last component of that.
  package let name: String

  /// The file of a path.
  package init(_ path: String) {
    self.path = path
    name = fileName(path)
  }
}

/// The tensors of a file as its header lists them: one object, of which each tensor is a row.
final class TensorTable: Sendable {
  /// One tensor.
  struct Row: Sendable {
    let name: String
    let shape: Shape
    /// First byte and end, counted from the first byte of the table's data.
    let begin: Int
    let end: Int
    /// The name's, as `NameTable` has it.
    let hash: UInt64
    /// Where the name stands in the file, and what says where its bytes are; a header has 100 MB at most.
    let place: Int32
    let offsetsPlace: Int32
    let dtype: DType

    /// A row; the places are known to be in the header.
    init(
      name: String, dtype: DType, shape: Shape, begin: Int, end: Int, place: Int, offsetsPlace: Int,
      hash: UInt64
    ) {
      (self.name, self.dtype, self.shape, self.begin, self.end) = (name, dtype, shape, begin, end)
      (self.hash, self.place, self.offsetsPlace) = (hash, Int32(place), Int32(offsetsPlace))
    }
  }

  let file: TensorFile
  /// The bytes of all tensors.
  let data: Bytes
  /// The place of the first of these in the file.
  let dataStart: Int
  let rows: [Row]
  /// The element type as the container spells it; nil where it is the dtype's name.
  let type: String?

  init(_ file: TensorFile, _ data: Bytes, dataStart: Int, _ rows: [Row], type: String? = nil) {
    (self.file, self.data, self.dataStart, self.rows, self.type) = (file, data, dataStart, rows, type)
  }

  /// All tensors.
  var tensors: [TensorInfo] { rows.indices.map { TensorInfo(self, $0) } }
}

/// One tensor a file names: dtype, dimensions, and where its bytes are. A row of its file's table: lists of a hundred thousand are
/// passed around.
package struct TensorInfo: Sendable {
  let table: TensorTable
  /// Its row there.
  let number: Int

  /// The name in the file.
  package var name: String { table.rows[number].name }
  /// The element type.
  package var dtype: DType { table.rows[number].dtype }
  /// The dimensions, outermost first.
  package var shape: Shape { table.rows[number].shape }
  /// The path of the file that holds it.
  package var file: String { table.file.path }
  /// The last component of that path.
  package var fileName: String { table.file.name }
  /// The place of its first byte in that file.
  package var offset: Int { table.dataStart + table.rows[number].begin }
  /// Its bytes, lent from the mapping; touching them reads the file.
  package var bytes: Bytes { table.data[table.rows[number].begin..<table.rows[number].end] }
  /// How many these are.
  package var byteCount: Int { table.rows[number].end - table.rows[number].begin }
  /// The element type as the container spells it: `BF16`, `Q4_K`.
  package var type: String { table.type ?? dtype.rawValue }
  /// The hash of the name, as `NameTable` has it.
  var hash: UInt64 { table.rows[number].hash }
  /// The byte of the file where its entry stands in the header.
  var headerPlace: Int { Int(table.rows[number].place) }

  /// Whether its name is a text of these bytes.
  func isNamed(_ text: UnsafeRawBufferPointer) -> Bool {
    var name = table.rows[number].name
    // SAFETY: lent for the call.
    return name.withUTF8 { UnsafeRawBufferPointer($0).holdsSame(as: text) }
  }

  init(_ table: TensorTable, _ number: Int) { (self.table, self.number) = (table, number) }

  /// A tensor of a file, in a table of its own. `type` is the dtype's name unless given: blocks of GGUF are bytes to a dtype.
  package init(
    name: String, dtype: DType, shape: Shape, in place: TensorFile, offset: Int, bytes: Bytes,
    type: String? = nil
  ) {
    let row = TensorTable.Row(
      name: name, dtype: dtype, shape: shape, begin: 0, end: bytes.count, place: 0, offsetsPlace: 0,
      hash: NameTable.hash(name))
    self.init(TensorTable(place, bytes, dataStart: offset, [row], type: type), 0)
  }

  /// The same of a file by its path.
  package init(
    name: String, dtype: DType, shape: Shape, file: String, offset: Int, bytes: Bytes, type: String? = nil
  ) {
    self.init(
      name: name, dtype: dtype, shape: shape, in: TensorFile(file), offset: offset, bytes: bytes, type: type)
  }
}

/// Some tensors of a source, each once; what a model of a hundred thousand uses.
package struct TensorSet: Sendable {
  /// For each table a bit a row.
  private var marks: [[UInt64]] = []
  private var places: [ObjectIdentifier: Int] = [:]
  /// The tables, which must outlive their identifiers.
  private var tables: [TensorTable] = []
  /// The table asked for last: tensors come one after the other.
  private var last: (table: ObjectIdentifier, place: Int)?

  /// None.
  package init() {}

  /// Some tensors.
  package init(_ tensors: some Sequence<TensorInfo>) {
    for tensor in tensors { insert(tensor) }
  }

  /// Whether a tensor is there.
  package func contains(_ tensor: TensorInfo) -> Bool {
    let table = ObjectIdentifier(tensor.table)
    let place: Int
    if let last, last.table == table {
      place = last.place
    } else if let known = places[table] {
      place = known
    } else {
      return false
    }
    return marks[place][tensor.number / 64] >> (tensor.number % 64) & 1 == 1
  }

  /// Adds a tensor.
  package mutating func insert(_ tensor: TensorInfo) {
    let place = place(of: tensor.table)
    marks[place][tensor.number / 64] |= 1 << (tensor.number % 64)
  }

  private mutating func place(of table: TensorTable) -> Int {
    let identity = ObjectIdentifier(table)
    if let last, last.table == identity { return last.place }
    let place = places[identity] ?? marks.count
    if place == marks.count {
      places[identity] = place
      tables.append(table)
      marks.append([UInt64](repeating: 0, count: table.rows.count / 64 + 1))
    }
    last = (identity, place)
    return place
  }

  /// Whether another set has all of its tensors.
  package func isSubset(of other: TensorSet) -> Bool {
    zip(tables, marks).allSatisfy { table, own in
      let others = other.places[ObjectIdentifier(table)].map { other.marks[$0] }
      return own.indices.allSatisfy { own[$0] & ~(others?[$0] ?? 0) == 0 }
    }
  }

  /// Adds the tensors of another set.
  package mutating func formUnion(_ other: TensorSet) {
    for (table, marks) in zip(other.tables, other.marks) {
      let place = place(of: table)
      for word in marks.indices { self.marks[place][word] |= marks[word] }
    }
  }
}

/// Named tensors, wherever they lie: one file, or several shards with an index.
package protocol TensorSource: Sendable {
  /// The tensors in file order, shard after shard.
  var tensors: [TensorInfo] { get }
  /// The tensor of a name, or nil.
  func tensor(_ name: String) -> TensorInfo?
  /// The tensor whose name is a text with another behind it, or nil; both of ASCII as a rule.
  func tensor(_ stem: String, ending: String) -> TensorInfo?
  /// Whether the name of some tensor may end in a text: false saves the questions for each name with that end.
  func mayHold(ending: String) -> Bool
  /// The files that hold them, with their sizes in bytes.
  var files: [(path: String, byteCount: Int)] { get }
  /// Things worth saying that are no reason to refuse.
  var warnings: [FormatError] { get }
  /// Throws `SRC_CHANGED` when a file is no longer what it was when it was opened.
  func checkUnchanged() throws(FormatError)
}

extension TensorSource {
  /// By a text made of both.
  package func tensor(_ stem: String, ending: String) -> TensorInfo? { tensor(stem + ending) }

  /// It may.
  package func mayHold(ending: String) -> Bool { true }
}
