defmodule Emily.Artifact.ArchiveError do
  @moduledoc """
  An archive that breaks a rule of the install contract. `entry` is the offending one, if any.
  """

  alias Emily.Artifact.Report

  defexception [:path, :entry, :expected, :actual]

  @type t :: %__MODULE__{
          path: Path.t() | nil,
          entry: String.t() | nil,
          expected: String.t(),
          actual: String.t()
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not unpack #{Path.basename(error.path || "the archive")}",
      [
        {"path", error.path},
        {"entry", error.entry},
        {"expected", error.expected},
        {"actual", error.actual}
      ],
      "The release is damaged: report it, and do not unpack it by hand."
    )
  end
end
