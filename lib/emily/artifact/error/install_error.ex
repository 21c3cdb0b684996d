defmodule Emily.Artifact.InstallError do
  @moduledoc """
  The verified files could not be put into `priv/`.
  """

  alias Emily.Artifact.Report

  defexception [:path, :action, :reason]

  @type t :: %__MODULE__{path: Path.t(), action: String.t(), reason: File.posix()}

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not #{error.action}: #{:file.format_error(error.reason)}",
      [{"path", error.path}],
      "Check the folder's owner, mode and free space, and run `mix compile`."
    )
  end
end
