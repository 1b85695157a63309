// The ways to resize as rows arrive. A Method takes RGBX rows and gives RGB ones.
#pragma once
#include "passes.h"

namespace turbo {

class Method : public RowSink {
public:
    virtual bool prepare(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept = 0;
    virtual void finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept = 0;
    virtual void trim() noexcept = 0;  // gives back what an unusual image needed

protected:
    void set(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept {
        horizontal_ = &horizontal;
        vertical_ = &vertical;
        passes_ = passes;
        asked_ = done_ = base_ = 0;
    }
    // Bytes of a row that arrives, and of one of the result, with what the passes need behind it.
    std::size_t arriving_stride() const noexcept {
        return rounded(4 * std::size_t(horizontal_->length()) + 16 + kRowSlack);
    }
    std::size_t result_stride() const noexcept {
        return rounded(3 * std::size_t(horizontal_->num()) + kRowSlack);
    }
    static std::size_t rounded(std::size_t size) noexcept { return (size + 63) & ~std::size_t(63); }
    static bool reserve(Buffer<std::uint8_t>& buffer, std::size_t stride, std::size_t rows) noexcept {
        constexpr std::size_t most = std::size_t(1) << 30;
        return rows <= most / stride && buffer.reserve(stride * rows);
    }

    const Axis* horizontal_ = nullptr;
    const Axis* vertical_ = nullptr;
    Passes passes_ = kScalarPasses;
    int asked_ = 0, done_ = 0;  // rows
    int base_ = 0;              // the row that lies at the start of the buffer
};

// Keeps the few rows that are being written, in turn; the same few again and again, so that they are warm.
class Ring : public Method {
public:
    std::uint8_t* row(int y) noexcept override;
    void trim() noexcept override { ring_.trim(); }

protected:
    bool prepare_ring() noexcept;
    const std::uint8_t* arrived(int y) const noexcept { return ring_.data() + place(y); }

private:
    std::size_t place(int y) const noexcept { return stride_ * std::size_t((y - base_) % kRowsAhead); }

    Buffer<std::uint8_t> ring_;
    std::size_t stride_ = 0;
};

// The horizontal pass as rows arrive, then the vertical one; either is a copy where the size stays.
class ColumnsFirst final : public Ring {
public:
    bool prepare(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept override;
    void written(int y) noexcept override;
    void finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept override;
    void trim() noexcept override {
        Ring::trim();
        middle_.trim();
    }

private:
    std::uint8_t* middle(int y) noexcept { return middle_.data() + stride_ * std::size_t(y); }
    void take(int y, int count) noexcept;

    Buffer<std::uint8_t> middle_;
    std::size_t stride_ = 0;
};

// The vertical pass as soon as an output row has its source rows, the horizontal one for every two output rows.
class RowsFirst final : public Method {
public:
    bool prepare(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept override;
    std::uint8_t* row(int y) noexcept override;
    void written(int y) noexcept override;
    void finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept override;
    void trim() noexcept override {
        arriving_.trim();
        between_.trim();
        made_.trim();
    }

private:
    bool is_ready(int output) const noexcept;
    void forget() noexcept;
    void make(int output) noexcept;
    std::uint8_t* between(int i) noexcept { return between_.data() + stride_ * std::size_t(i); }
    std::uint8_t* made(int output) noexcept { return made_.data() + made_stride_ * std::size_t(output); }

    Buffer<std::uint8_t> arriving_, between_, made_;
    std::size_t stride_ = 0, made_stride_ = 0;
    int room_ = 0, next_ = 0;  // rows; the next output
};

class Nearest final : public Ring {
public:
    bool prepare(const Axis& horizontal, const Axis& vertical, const Passes& passes) noexcept override;
    void written(int y) noexcept override;
    void finish(std::uint8_t* target, std::ptrdiff_t stride) noexcept override;
    void trim() noexcept override {
        Ring::trim();
        made_.trim();
    }

private:
    Buffer<std::uint8_t> made_;
    std::size_t stride_ = 0;
    int next_ = 0;  // the next output
};

}  // namespace turbo
