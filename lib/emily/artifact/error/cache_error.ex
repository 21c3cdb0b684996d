defmodule Emily.Artifact.CacheError do
  @moduledoc """
  The cache, or a file in it, cannot be used.

  `reason` is `:owner`, `:no_home` or what the operating system said.
  """

  alias Emily.Artifact.Report

  defexception [:path, :action, :reason, :expected, :actual]

  @type t :: %__MODULE__{
          path: Path.t() | nil,
          action: String.t(),
          reason: :owner | :no_home | File.posix(),
          expected: String.t() | nil,
          actual: String.t() | nil
        }

  @impl true
  def message(%__MODULE__{} = error) do
    Report.text(
      "could not #{error.action}: #{cause(error.reason)}",
      [{"path", error.path}, {"expected", error.expected}, {"actual", error.actual}],
      next(error)
    )
  end

  defp cause(:owner), do: "it belongs to someone else"
  defp cause(:no_home), do: "neither EMILY_CACHE nor HOME says where it is"
  defp cause(:enospc), do: "the disk is full"
  defp cause(:edquot), do: "the disk quota is used up"
  defp cause(:erofs), do: "the file system is read-only"
  defp cause(reason), do: List.to_string(:file.format_error(reason))

  defp next(%{reason: reason}) when reason in [:enospc, :edquot] do
    "Free some space, or set EMILY_CACHE to a folder with more of it, and run `mix compile`."
  end

  defp next(_error), do: "Set EMILY_CACHE to a folder of your own and run `mix compile`."
end
