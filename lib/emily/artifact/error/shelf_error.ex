defmodule Emily.Artifact.ShelfError do
  @moduledoc """
  A verified archive could not be put into the folder that was asked for.
  """

  alias Emily.Artifact.Report

  defexception [:path, :reason]

  @type t :: %__MODULE__{path: Path.t(), reason: File.posix()}

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not write the fetched files: #{:file.format_error(error.reason)}",
      [{"path", error.path}],
      "Name a folder of your own with room, and run `mix emily.fetch --into DIR`."
    )
  end
end
