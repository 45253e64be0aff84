// What a conversion is asked to do.

package import SmeltQuantization
package import SmeltStorage
import SmeltTensors

/// What a conversion is asked to do.
package struct ConvertOptions: Sendable {
  /// Which scheme for which weight.
  package var recipe: Recipe
  /// What calibration learned, if anything.
  package var statistics: Statistics?
  /// Whether statistics will be there when the conversion begins.
  package var calibrates = false
  /// The container of the result.
  package var target: any ResultTarget
  /// What becomes of blocks that draft tokens.
  package var drafts: DraftFate
  /// Refuse every step that may change a value.
  package var exactOnly: Bool
  /// Refuse schemes that engines cannot load together, where else the one of most bits is taken for all.
  package var isStrict = false
  /// Replace a result that exists.
  package var overwrite: Bool
  /// How codes and scales were chosen, for the provenance; null: rounding to nearest.
  var method = JSON(.null)
  /// Words for a directory that say more than the recipe, for the provenance; null: none.
  var words = JSON(.null)
  /// Go on with what a run that was stopped has left.
  package var resume = false
  /// Whether what a method chose in a run that was stopped is taken up.
  var resumesPrepared = false
  /// Bytes of the result after which the work is secured for another run to go on with.
  package var journalStep = ConvertOptions.usualJournalStep
  /// Seconds of a calibration after which the same is done.
  package var checkpointSeconds = CalibrationProgressOptions().seconds
  /// The most bytes of all files of the result: a larger one gets no name.
  var byteLimit: Int?
  /// The bytes of weights that the schemes were chosen with, for a run that goes on.
  var budgetBytes: Int?
  /// Bytes of a unit of a cluster's work that is not a file of the result; nil: by the result's size.
  package var unitBytes: Int?
  /// What was asked for, for the parts of a cluster's run.
  package var request = JSON(.null)
  /// What is worth saying of the words of the request.
  var remarks: [String] = []
  /// Threads, memory, progress.
  package var run: RunOptions

  /// A second of writing: what a run that is stopped loses at most, and seldom enough to cost nothing.
  package static let usualJournalStep = 256 << 20

  /// Options; nothing changes values unless the recipe says so.
  package init(
    recipe: Recipe, statistics: Statistics? = nil, target: any ResultTarget,
    drafts: DraftFate = .quantize, exactOnly: Bool = false, overwrite: Bool = false,
    run: RunOptions = RunOptions()
  ) {
    self.recipe = recipe
    self.statistics = statistics
    self.target = target
    self.drafts = drafts
    self.exactOnly = exactOnly
    self.overwrite = overwrite
    self.run = run
  }
}

extension ConvertOptions {
  /// Refuses a slab with numbers that its new encoding does not hold, where none may change.
  /// - Throws: `RequestError` unsupported.
  func requireExact(_ slab: OutputMatrix) throws {
    guard exactOnly else { return }
    throw RequestError(
      .unsupported,
      "'\(slab.name)' holds numbers that '\(slab.encoding.name)' does not, and --exact-only allows no rounding",
      help: "leave --exact-only away, or keep the weight by a recipe")
  }
}

/// What a conversion does with blocks that draft tokens (multi-token prediction).
package enum DraftFate: String, Sendable, CaseIterable {
  /// They stay as they are stored, as far as the result can hold that.
  case keep
  /// The recipe decides, as for the layers they resemble.
  case quantize
  /// They are left out.
  case drop
}
