// Going on with a calibration that was stopped: what it was stands in a journal beside the result, and between two layers all that
// the layers before have told, and the activations on their way to the next. Formats/statistics.md, section 6.

import SmeltContainers
import SmeltModels
import SmeltQuantization
import SmeltStorage
import SmeltTensors

/// What a calibration learned of a layer.
struct LearnedLayer {
  var entries: [StatisticsEntry]
  var cache: CacheRange?
  var tokens: ExpertTokens?
  var sources: ExpertSources?
}

/// The checkpoints of one calibration.
final class CalibrationProgress {
  /// What another run left.
  struct Left {
    /// The windows it added for starved experts, by their places in the pool; nil when it did not come so far.
    var added: [Int]?
    /// The layers that are over.
    var layers: [LearnedLayer] = []
    /// The activations behind them, float32 of all tokens in order.
    var activations: MappedFile?
    /// What the statistics files say of the calibration, by their paths.
    var metadata: [(file: String, lines: [String])] = []
  }

  /// What another run left; nothing without `--resume`.
  private(set) var left = Left()
  private let path: String
  private let form: StatisticsForm
  private let header: JSON
  private let seconds: Double
  private var journal: Journal?
  private var last = monotonicSeconds()
  /// Layers that are over and in no checkpoint yet.
  private var pending: [LearnedLayer] = []
  private var layers = 0
  /// The files that are kept now.
  private var kept: [String] = []

  /// Bytes of statistics that are kept for the next checkpoint, at most.
  private static let pendingLimit = 64 << 20

  /// Begins or goes on.
  /// - Parameters:
  ///   - header: what the calibration is.
  ///   - pool: how many windows there are to add from.
  /// - Throws: `RequestError` usage where there is nothing to go on with, cannot-create where a run left something and is not to
  ///   be resumed; `RESUME_MISMATCH` when that was another calibration, or its files are not what it wrote.
  init(
    _ path: String, _ header: JSON, _ family: any ModelFamily, _ form: StatisticsForm, pool: Int,
    _ options: CalibrationProgressOptions
  ) throws {
    self.path = path
    self.form = form
    self.header = header
    seconds = options.seconds
    try Journal.refuseForeign(journalPath)
    let content = try Journal.read(journalPath)
    guard options.resume else {
      guard content?.entries.isEmpty ?? true else {
        let names = ([fileName(journalPath)] + CalibrationProgress.names(beside: path)).joined(
          separator: ", ")
        throw RequestError(
          .cannotCreate, "'\(journalPath)' was left by a run that was stopped",
          help: "give --resume to go on with it, or remove what it kept to start over: \(names)")
      }
      try refuseForeign()
      return
    }
    guard let content else {
      throw RequestError.nothingToResume(journalPath)
    }
    try ResultJournal.check(content.header, is: header, file: journalPath)
    for entry in content.entries { try read(entry, family, pool: pool) }
    let steps = content.entries.compactMap { entry in
      entry["layers"]?.integer.map { ($0, entry["activations"]) }
    }
    // Stopped before the activations of the checkpoint before the last one were removed.
    for case (let layers, let behind?) in steps.dropLast() {
      let path = activationsPath(layers)
      if pathKind(path) == .file, try identity(path).text() == behind.text() { removeFile(path) }
    }
    if let behind = steps.last?.1 {
      left.activations = try lent(activationsPath(layers), behind)
      kept.append(activationsPath(layers))
    }
    try refuseForeign()
    journal = try Journal(resuming: journalPath, content)
  }

  /// Removes what a run left: its journal first, which must never tell of files that are gone, then its checkpoints.
  static func discard(beside path: String) {
    removeFile(ResultJournal.path(path))
    for name in names(beside: path) { removeFile(joinPath(parentFolder(path), name)) }
  }

  /// Names that only a calibration to a path gives its files, as far as they are there.
  private static func names(beside path: String) -> [String] {
    let prefix = "\(fileName(path)).partial-"
    return ((try? namesInFolder(parentFolder(path))) ?? []).filter { name in
      guard name.hasPrefix(prefix) else { return false }
      let words = name.dropFirst(prefix.count).split(separator: "-", omittingEmptySubsequences: false)
      let numbers = words.dropFirst().allSatisfy { word in
        !word.isEmpty && word.allSatisfy { ("0"..."9").contains($0) }
      }
      return numbers
        && (words[0] == "layers" && words.count == 3 || words[0] == "activations" && words.count == 2)
    }
  }

  /// Refuses files that have the names of checkpoints and are none that a journal tells of: they are somebody's.
  private func refuseForeign() throws {
    let known = Set(kept.map(fileName))
    guard let name = CalibrationProgress.names(beside: path).first(where: { !known.contains($0) }) else {
      return
    }
    throw RequestError(
      .cannotCreate,
      "'\(path + name.dropFirst(fileName(path).count))' exists, has the name of a checkpoint, and no journal tells of it",
      help: "move it away, or remove it if an interrupted run left it")
  }

  private var journalPath: String { ResultJournal.path(path) }

  /// Whether something is kept that another run can go on with.
  var canResume: Bool { journal?.hasEntries ?? false }

  /// Holds what another run left against what this one will write: the same tokens of the same text, and in each layer with experts
  /// every token at as many of them as the model sends it to.
  /// - Throws: `RESUME_MISMATCH`.
  func check(_ statistics: Statistics, expertsPerToken: Int) throws(FormatError) {
    let expected = statistics.metadata.map { "\($0.key)=\($0.value)" }
    for (file, lines) in left.metadata where lines.sorted() != expected.sorted() {
      throw FormatError(.resumeMismatch, file: file, "is of another calibration")
    }
    for layer in left.layers {
      guard let tokens = layer.tokens else { continue }
      let sum = tokens.counts.reduce(0) { $0.addingReportingOverflow($1).partialValue }
      let sources = layer.sources?.experts.map { $0.own &+ $0.toppedUp } ?? tokens.counts
      guard sum == statistics.tokens * expertsPerToken, sources == tokens.counts else {
        throw FormatError(
          .resumeMismatch, file: journalPath, subject: "layer \(tokens.layer)",
          "its experts got \(sum) tokens, expected \(statistics.tokens) × \(expertsPerToken)")
      }
    }
  }

  /// Notes the windows that were added, so that they are not looked for again.
  func note(added: [Int]) throws {
    guard left.added == nil, isDue else { return }
    try append(added: added)
  }

  private func append(added: [Int]) throws {
    try append(["added": JSON(added.map { JSON($0) })])
    left.added = added
  }

  private var isDue: Bool { monotonicSeconds() - last >= seconds }

  /// Takes what a layer told, and writes a checkpoint when it is time.
  /// - Parameter canStop: whether the layer behind it can run with the activations alone.
  func layerEnded(
    _ layer: LearnedLayer, _ statistics: Statistics, added: [Int], _ stream: borrowing TokenStream,
    canStop: Bool
  ) throws {
    pending.append(layer)
    let bytes = pending.reduce(0) {
      $0 + $1.entries.reduce(0) { $0 + form.channelBytes * $1.groups * ($1.columns + 1) }
    }
    guard canStop, isDue || bytes >= CalibrationProgress.pendingLimit else { return }
    if left.added == nil { try append(added: added) }
    var section = statistics
    for layer in pending {
      section.add(layer.entries)
      section.add([layer.cache].compactMap { $0 })
      section.add([layer.tokens].compactMap { $0 })
      section.add([layer.sources].compactMap { $0 })
    }
    let (name, behind) = (
      statisticsPath(layers..<layers + pending.count), activationsPath(layers + pending.count)
    )
    do {
      try write(section, name, behind, stream)
    } catch {
      // What no journal tells of is of no use to another run.
      for file in [name, behind] where written.contains(file) { removeFile(file) }
      throw error
    }
    if layers > 0 {
      removeFile(activationsPath(layers))
      kept.removeAll { $0 == activationsPath(layers) }
    }
    layers += pending.count
    pending = []
    last = monotonicSeconds()
  }

  /// Files of this run.
  private var written: Set<String> = []

  private func write(
    _ section: Statistics, _ name: String, _ behind: String, _ stream: borrowing TokenStream
  ) throws {
    var writer = try SafetensorsWriter(
      path: name, tensors: section.tensors.map { SafetensorsWriter.Declaration($0.name, $0.dtype, $0.shape) },
      metadata: section.metadata.map { ($0.key, $0.value) })
    for tensor in section.tensors { try writer.write(tensor.name, tensor.bytes) }
    try writer.commit()
    written.insert(name)
    ResultLock.note(name, journal: journalPath)
    var file = try FileWriter(path: behind, overwrite: false)
    try stream.forEach(Pass()) { _, _, x, _ in try x.values.withUnsafeBytes { try file.write($0) } }
    try file.commit()
    written.insert(behind)
    ResultLock.note(behind, journal: journalPath)
    try append([
      "layers": JSON(layers + pending.count), "statistics": try identity(name),
      "activations": try identity(behind),
      "files": [JSON(fileName(name)), JSON(fileName(behind))],
    ])
    kept += [name, behind]
  }

  private func append(_ entry: JSON) throws {
    if journal == nil {
      journal = try Journal(creating: journalPath, header: header, [entry])
    } else {
      try journal?.append([entry])
    }
  }

  /// Removes all that was kept.
  func remove() {
    guard journal != nil || !written.isEmpty else { return }
    // The journal first: it must never tell of files that are gone.
    removeFile(journalPath)
    for file in kept { removeFile(file) }
    journal = nil
  }

  private func statisticsPath(_ layers: Range<Int>) -> String {
    "\(path).partial-layers-\(layers.lowerBound)-\(layers.upperBound - 1)"
  }

  private func activationsPath(_ layers: Int) -> String { "\(path).partial-activations-\(layers)" }

  /// What a file must be to be resumed: read back from where it lies.
  private func identity(_ path: String) throws -> JSON {
    let file = try MappedFile(path: path)
    return ["bytes": JSON(file.count), "xxh64": JSON(hexadecimal(file.bytes.withUnsafeBytes { xxh64($0) }))]
  }

  /// A file that is what an entry says.
  private func lent(_ path: String, _ expected: JSON) throws -> MappedFile {
    guard pathKind(path) == .file, try identity(path).text() == expected.text() else {
      throw FormatError(
        .resumeMismatch, file: path, "is not what the run that was stopped wrote, \(expected.text())")
    }
    return try MappedFile(path: path)
  }

  private func read(_ entry: JSON, _ family: any ModelFamily, pool: Int) throws {
    let layout = StatisticsLayout(family)
    let refusal = FormatError(.resumeMismatch, file: journalPath, "holds an invalid entry")
    if let added = entry["added"]?.array {
      let places = added.compactMap(\.integer)
      guard places.count == added.count, places.allSatisfy((0..<pool).contains),
        zip(places, places.dropFirst()).allSatisfy(<)
      else { throw refusal }
      left.added = places
      return
    }
    guard let end = entry["layers"]?.integer, end > layers, end < layout.sections.count,
      family.canBegin(at: end), let statistics = entry["statistics"], entry["activations"] != nil,
      left.added != nil
    else { throw refusal }
    let path = statisticsPath(layers..<end)
    _ = try lent(path, statistics)
    kept.append(path)
    let found = try statisticsFile(path, form)
    let expected = layout.sections[layers..<end].flatMap { $0.declarations(form) }
    guard
      found.tensors.map({ "\($0.name) \($0.dtype) \($0.shape)" })
        == expected.map({ "\($0.name) \($0.dtype) \($0.shape)" })
    else {
      throw FormatError(
        .resumeMismatch, file: path, "does not hold the statistics of layers \(layers) to \(end - 1)")
    }
    left.metadata.append((path, found.metadata.map { "\($0.key)=\($0.value)" }))
    try found.check(
      modelType: family.modelType, experts: family.dimensions.experts, weights: family.weights)
    for section in layout.sections[layers..<end] {
      left.layers.append(try section.learned(found, or: .resumeMismatch))
    }
    layers = end
  }
}
