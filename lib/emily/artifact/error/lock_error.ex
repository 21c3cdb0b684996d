defmodule Emily.Artifact.LockError do
  @moduledoc """
  A lock that could not be taken. `resource` says what it protects.
  """

  alias Emily.Artifact.Report

  defexception [:resource, :path, :action, :reason]

  @type t :: %__MODULE__{
          resource: String.t(),
          path: Path.t(),
          action: String.t(),
          reason: File.posix()
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not lock #{error.resource}: failed to #{error.action}: #{:inet.format_error(error.reason)}",
      [{"path", error.path}],
      "Set EMILY_CACHE to a folder of your own on a local disk and run `mix compile`."
    )
  end
end
