// What a conversion is asked to do.

public import SmeltQuantization
import SmeltStorage

/// What a conversion is asked to do.
public struct ConvertOptions: Sendable {
  /// Which scheme for which weight.
  public var recipe: Recipe
  /// What calibration learned, if anything.
  public var statistics: Statistics?
  /// The container of the result.
  public var target: any ResultTarget
  /// What becomes of blocks that draft tokens.
  public var drafts: DraftFate
  /// Refuse every step that may change a value.
  public var exactOnly: Bool
  /// Replace a result that exists.
  public var overwrite: Bool
  /// How codes and scales were chosen, for the provenance; null: rounding to nearest.
  var method = JSON(.null)
  /// Go on with what a run that was stopped has left.
  public var resume = false
  /// Bytes of the result after which the work is secured for another run to go on with.
  public var journalStep = ConvertOptions.usualJournalStep
  /// Seconds of a calibration after which the same is done.
  public var checkpointSeconds = CheckpointOptions().seconds
  /// The most bytes of all files of the result: a larger one gets no name.
  var byteLimit: Int?
  /// The bytes of weights that the schemes were chosen with, for a run that goes on.
  var budgetBytes: Int?
  /// Threads, memory, progress.
  public var run: RunOptions

  /// A second of writing: what a run that is stopped loses at most, and seldom enough to cost nothing.
  public static let usualJournalStep = 256 << 20

  /// Options; nothing changes values unless the recipe says so.
  public init(
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

/// What a conversion does with blocks that draft tokens (multi-token prediction).
public enum DraftFate: String, Sendable, CaseIterable {
  /// They stay as they are stored, as far as the result can hold that.
  case keep
  /// The recipe decides, as for the layers they resemble.
  case quantize
  /// They are left out.
  case drop
}
