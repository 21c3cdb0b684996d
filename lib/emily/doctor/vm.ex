defmodule Emily.Doctor.Vm do
  @moduledoc """
  What the operating system says about the process that this VM is, and about the compiler that
  makes kernels for it.
  """

  @doc "The paths of the shared libraries that this VM has mapped; none where `/proc` is absent."
  @spec mapped_libraries({:ok, String.t()} | {:error, term()}) :: [Path.t()]
  def mapped_libraries(maps \\ File.read("/proc/self/maps")) do
    case maps do
      {:ok, text} ->
        ~r{ (/.+\.so[.\d]*)$}m
        |> Regex.scan(text, capture: :all_but_first)
        |> List.flatten()
        |> Enum.uniq()

      {:error, _reason} ->
        []
    end
  end

  @doc """
  The first line of what a C++ compiler says to `--version`; nil where none of the folders of a `PATH` has one of
  this name that runs.
  """
  @spec compiler(String.t(), String.t()) :: String.t() | nil
  def compiler(name, path \\ System.get_env("PATH", "")) do
    with found when is_list(found) <-
           :os.find_executable(String.to_charlist(name), String.to_charlist(path)),
         {output, 0} <- System.cmd(List.to_string(found), ["--version"], stderr_to_stdout: true) do
      output |> String.split("\n") |> hd()
    else
      _absent -> nil
    end
  end
end
