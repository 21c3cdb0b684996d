defmodule Emily.Doctor.Vm do
  @moduledoc """
  What the operating system says about the process that this VM is, and about the compiler that
  MLX would start from it.
  """

  import Bitwise

  # Signals are numbered from 1 and the mask's lowest bit is the first.
  @sigchld 17

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

  @doc "Whether this VM ignores SIGCHLD; unknown where `/proc` is absent."
  @spec sigchld({:ok, String.t()} | {:error, term()}) :: :ignored | :default | :unknown
  def sigchld(status \\ File.read("/proc/self/status")) do
    with {:ok, text} <- status,
         [_line, mask] <- Regex.run(~r/^SigIgn:\s*([0-9a-f]+)$/m, text) do
      if (String.to_integer(mask, 16) &&& 1 <<< (@sigchld - 1)) == 0,
        do: :default,
        else: :ignored
    else
      _unreadable -> :unknown
    end
  end

  @doc """
  The first line of `g++ --version`, the compiler that MLX calls by this name; nil where none of
  the folders of a `PATH` has one that runs.
  """
  @spec compiler(String.t()) :: String.t() | nil
  def compiler(path \\ System.get_env("PATH", "")) do
    with found when is_list(found) <- :os.find_executable(~c"g++", String.to_charlist(path)),
         {output, 0} <- System.cmd(List.to_string(found), ["--version"], stderr_to_stdout: true) do
      output |> String.split("\n") |> hd()
    else
      _absent -> nil
    end
  end
end
